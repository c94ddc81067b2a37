# Four roles, each with the rights of one process and no others. What they may is written in
# modules/policies, which Terraform renders without a provider, so that tests can try it out.

locals {
  parameter_prefix = "/cloudimg/${var.name}"
}

module "policies" {
  source = "./modules/policies"

  partition          = data.aws_partition.this.partition
  region             = var.region
  account_id         = data.aws_caller_identity.this.account_id
  source_bucket      = var.source_bucket
  source_prefix      = var.source_prefix
  destination_bucket = var.destination_bucket
  destination_prefix = var.destination_prefix
  kms_key_arn        = var.destination_kms_key_arn
  parameter_prefix   = local.parameter_prefix
  cluster_name       = aws_ecs_cluster.this.name
  cluster_arn        = aws_ecs_cluster.this.arn
  repository_arn     = aws_ecr_repository.images.arn
  log_group_arn      = aws_cloudwatch_log_group.tasks.arn
  task_definitions   = [for each in aws_ecs_task_definition.this : each.arn]
  passed_roles       = [for name in ["execution", "scheduler", "worker"] : aws_iam_role.this[name].arn]
  driver_principals  = var.driver_principals
}

resource "aws_iam_role" "this" {
  for_each = {
    execution = module.policies.trust_tasks  # Fargate, before the container starts: image and logs
    scheduler = module.policies.trust_tasks  # certificate and address; no data
    worker    = module.policies.trust_tasks  # certificate; reads the source, writes the destination
    driver    = module.policies.trust_driver # who runs `cloudimg`: starts and ends tasks
  }
  name                 = "${var.name}-${each.key}"
  assume_role_policy   = each.value
  max_session_duration = each.key == "driver" ? 12 * 3600 : 3600
}

resource "aws_iam_role_policy" "this" {
  for_each = {
    execution = module.policies.execution
    scheduler = module.policies.scheduler
    worker    = module.policies.worker
    driver    = module.policies.driver
  }
  name   = each.key
  role   = aws_iam_role.this[each.key].name
  policy = each.value

  lifecycle {
    precondition {
      condition = var.source_bucket != var.destination_bucket || !(
        startswith(var.source_prefix, var.destination_prefix) ||
        startswith(var.destination_prefix, var.source_prefix)
      )
      error_message = "Source and destination overlap: workers could write over what they read. Take another bucket or prefix."
    }
  }
}
