output "cloudimg_cluster" {
  description = "What `cloudimg --cluster` needs: terraform output -json cloudimg_cluster > cluster.json"
  value = {
    version                   = 1
    kind                      = "aws-ecs"
    region                    = var.region
    cluster                   = aws_ecs_cluster.this.arn
    scheduler_task_definition = aws_ecs_task_definition.this["scheduler"].arn
    worker_task_definition    = aws_ecs_task_definition.this["worker"].arn
    container                 = local.container
    subnets                   = aws_subnet.public[*].id
    scheduler_security_groups = [aws_security_group.members.id, aws_security_group.scheduler.id]
    worker_security_groups    = [aws_security_group.members.id]
    parameter_prefix          = local.parameter_prefix
    image                     = local.image
    driver_role               = aws_iam_role.this["driver"].arn
    log_group                 = aws_cloudwatch_log_group.tasks.name
    is_reachable              = var.admin_cidr != null
  }
}
