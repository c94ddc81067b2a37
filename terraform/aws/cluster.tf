# Where tasks run, and what they are. There is no service here and nothing that computes: `cloudimg`
# starts the tasks of a job and ends them with it.

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_ecr_repository" "images" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE" # workers that replace lost ones run what the first ones ran
  force_delete         = true        # images can be built again; `terraform destroy` takes them away

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_cloudwatch_log_group" "tasks" {
  name              = "/cloudimg/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
}

locals {
  container = "cloudimg"
  image     = "${aws_ecr_repository.images.repository_url}:${var.image_tag}"

  tasks = {
    scheduler = {
      cpu         = var.scheduler_cpu
      memory      = var.scheduler_memory
      environment = { CLOUDIMG_IDLE_TIMEOUT_S = var.idle_timeout_s }
    }
    worker = {
      cpu    = var.worker_cpu
      memory = var.worker_memory
      environment = {
        CLOUDIMG_WORKER_THREADS = var.worker_cpu / 1024
        CLOUDIMG_WORKER_MEMORY  = "${var.worker_memory}MiB"
      }
    }
  }
  environment = {
    AWS_DEFAULT_REGION                         = var.region
    DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION = "true"
  }
}

resource "aws_ecs_task_definition" "this" {
  for_each                 = local.tasks
  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  execution_role_arn       = aws_iam_role.this["execution"].arn
  task_role_arn            = aws_iam_role.this[each.key].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  # The one place that can be written. The image declares VOLUME /tmp: Fargate then gives the volume
  # the owner and mode of that folder; else it were root's alone.
  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name                   = local.container
    image                  = local.image
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }

    # Fargate's longest. Spare capacity is taken back with a warning two minutes ahead.
    stopTimeout = 120

    environment = [
      for name, value in merge(local.environment, each.value.environment) : { name = name, value = tostring(value) }
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.tasks.name
        awslogs-region        = var.region
        awslogs-stream-prefix = each.key
      }
    }
  }])

  lifecycle {
    precondition {
      condition     = each.value.memory >= 2 * each.value.cpu && each.value.memory <= 8 * each.value.cpu
      error_message = "Fargate has 2 to 8 GiB of memory for each processor."
    }
  }
}

# A warning, not a limit: Amazon sends mails and stops nothing.
resource "aws_budgets_budget" "this" {
  count        = var.budget_email == null ? 0 : 1
  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }
    content {
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = [var.budget_email]
    }
  }
}
