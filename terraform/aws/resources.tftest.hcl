# What is made, what it costs while idle, and what `cloudimg` is told of it.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b"] }
  }
  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/cloudimg" }
  }
  mock_resource "aws_ecr_repository" {
    defaults = { repository_url = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloudimg" }
  }
  override_resource {
    target = aws_security_group.members
    values = { id = "sg-members" }
  }
  override_resource {
    target = aws_security_group.scheduler
    values = { id = "sg-scheduler" }
  }
  override_resource {
    target = aws_subnet.public[0]
    values = { id = "subnet-0" }
  }
  override_resource {
    target = aws_subnet.public[1]
    values = { id = "subnet-1" }
  }
  override_resource {
    target = aws_ecs_task_definition.this["scheduler"]
    values = { arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/cloudimg-scheduler:1" }
  }
  override_resource {
    target = aws_ecs_task_definition.this["worker"]
    values = { arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/cloudimg-worker:1" }
  }
  override_resource {
    target = aws_iam_role.this["execution"]
    values = { arn = "arn:aws:iam::123456789012:role/cloudimg-execution" }
  }
  override_resource {
    target = aws_iam_role.this["scheduler"]
    values = { arn = "arn:aws:iam::123456789012:role/cloudimg-scheduler" }
  }
  override_resource {
    target = aws_iam_role.this["worker"]
    values = { arn = "arn:aws:iam::123456789012:role/cloudimg-worker" }
  }
  override_resource {
    target = aws_iam_role.this["driver"]
    values = { arn = "arn:aws:iam::123456789012:role/cloudimg-driver" }
  }
}

variables {
  region             = "eu-central-1"
  source_bucket      = "source"
  source_prefix      = "scans/"
  destination_bucket = "destination"
  destination_prefix = "zarr/"
  image_tag          = "0.1.0"
}

run "the_destination_is_private_and_keeps_no_rubbish" {
  assert {
    condition = (
      aws_s3_bucket_public_access_block.destination[0].block_public_acls &&
      aws_s3_bucket_public_access_block.destination[0].block_public_policy &&
      aws_s3_bucket_public_access_block.destination[0].ignore_public_acls &&
      aws_s3_bucket_public_access_block.destination[0].restrict_public_buckets
    )
    error_message = "The bucket, or objects of it, could be made public."
  }
  assert {
    condition     = one(aws_s3_bucket_ownership_controls.destination[0].rule).object_ownership == "BucketOwnerEnforced"
    error_message = "Objects may have access lists."
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.destination[0].rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Objects are not encrypted."
  }
  assert {
    condition = (
      alltrue([for rule in aws_s3_bucket_lifecycle_configuration.destination[0].rule : rule.status == "Enabled"]) &&
      one(flatten([for rule in aws_s3_bucket_lifecycle_configuration.destination[0].rule : rule.abort_incomplete_multipart_upload])).days_after_initiation == 1 &&
      alltrue([for each in flatten([for rule in aws_s3_bucket_lifecycle_configuration.destination[0].rule : rule.expiration]) : each.expired_object_delete_marker]) # which S3 accepts only without days
    )
    error_message = "Parts of uploads that were never completed stay, and cost; or results are deleted."
  }
  assert {
    condition = jsondecode(aws_s3_bucket_policy.destination[0].policy).Statement == [{
      Sid       = "RefusePlainHttp"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::destination", "arn:aws:s3:::destination/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "Plain HTTP is not refused, or something is allowed."
  }
  assert {
    condition     = aws_s3_bucket.destination[0].force_destroy == false
    error_message = "`terraform destroy` would delete results."
  }
  assert {
    condition = (
      aws_s3_bucket_versioning.destination[0].versioning_configuration[0].status == "Enabled" &&
      one([for rule in aws_s3_bucket_lifecycle_configuration.destination[0].rule : rule.noncurrent_version_expiration[0].noncurrent_days if rule.id == "expire-old-versions"]) == 30
    )
    error_message = "What is deleted by mistake is lost, or what is replaced stays for ever and costs."
  }
}

run "a_key_and_no_versions_on_request" {
  variables {
    destination_versioning  = false
    destination_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/k"
  }
  assert {
    condition     = length(aws_s3_bucket_versioning.destination) == 0
    error_message = "Versions are kept."
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.destination[0].rule).apply_server_side_encryption_by_default[0].kms_master_key_id == "arn:aws:kms:eu-central-1:123456789012:key/k"
    error_message = "Another key encrypts the results."
  }
  assert {
    condition = alltrue([
      for role, may in { worker = true, driver = true, scheduler = false, execution = false } :
      may == contains([for each in jsondecode(aws_iam_role_policy.this[role].policy).Statement : join(" ", flatten([each.Action, each.Resource]))], "kms:Decrypt kms:GenerateDataKey arn:aws:kms:eu-central-1:123456789012:key/k")
    ])
    error_message = "The key is closed to who writes, or open to who does not."
  }
}

run "a_bucket_that_is_there_is_left_as_it_is" {
  variables {
    create_destination_bucket = false
    destination_versioning    = true
  }
  assert {
    condition = 0 == sum([
      length(aws_s3_bucket.destination),
      length(aws_s3_bucket_lifecycle_configuration.destination),
      length(aws_s3_bucket_ownership_controls.destination),
      length(aws_s3_bucket_policy.destination),
      length(aws_s3_bucket_public_access_block.destination),
      length(aws_s3_bucket_server_side_encryption_configuration.destination),
      length(aws_s3_bucket_versioning.destination),
    ])
    error_message = "A bucket of somebody else would be changed."
  }
}

run "tasks_are_fargate_s" {
  assert {
    condition     = alltrue([for task in aws_ecs_task_definition.this : task.requires_compatibilities == toset(["FARGATE"]) && task.network_mode == "awsvpc"])
    error_message = "A task needs machines that run all the time."
  }
  assert {
    condition     = aws_ecs_cluster_capacity_providers.this.capacity_providers == toset(["FARGATE", "FARGATE_SPOT"]) && aws_ecs_cluster_capacity_providers.this.cluster_name == "cloudimg"
    error_message = "Workers cannot be started on spare capacity."
  }
  assert {
    condition     = [for setting in aws_ecs_cluster.this.setting : setting.value if setting.name == "containerInsights"] == ["enabled"]
    error_message = "There are no metrics of tasks."
  }
  assert {
    condition     = length(distinct([for task in aws_ecs_task_definition.this : task.task_role_arn])) == 2 && alltrue([for task in aws_ecs_task_definition.this : task.task_role_arn != task.execution_role_arn])
    error_message = "What starts a container, the scheduler and the worker must have roles of their own."
  }
  assert {
    condition = (
      aws_ecs_task_definition.this["worker"].task_role_arn == "arn:aws:iam::123456789012:role/cloudimg-worker" &&
      aws_ecs_task_definition.this["scheduler"].task_role_arn == "arn:aws:iam::123456789012:role/cloudimg-scheduler"
    )
    error_message = "Roles are swapped."
  }
}

run "containers_can_do_little" {
  assert {
    condition = alltrue([
      for container in flatten([for task in aws_ecs_task_definition.this : jsondecode(task.container_definitions)]) : alltrue([
        container.name == "cloudimg",
        container.image == "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloudimg:0.1.0",
        container.user == "10001:10001",
        container.readonlyRootFilesystem,
        container.linuxParameters.capabilities.drop == ["ALL"],
        container.stopTimeout == 120,
        !contains(keys(container), "secrets"),
        !contains(keys(container), "privileged"),
      ])
    ])
    error_message = "A container is root, writes to its image, or does not get the two minutes of warning."
  }
  assert {
    condition = alltrue([
      for task in aws_ecs_task_definition.this :
      one(task.volume).name == one(one(jsondecode(task.container_definitions)).mountPoints).sourceVolume &&
      one(one(jsondecode(task.container_definitions)).mountPoints).containerPath == "/tmp"
    ])
    error_message = "There is nowhere to put the certificate and what is spilled."
  }
}

run "containers_demand_tls" {
  assert {
    condition = alltrue([
      for container in flatten([for task in aws_ecs_task_definition.this : jsondecode(task.container_definitions)]) :
      contains(container.environment, { name = "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", value = "true" })
    ])
    error_message = "A scheduler or worker would talk in the clear."
  }
}

run "containers_are_told_their_size_and_region" {
  variables {
    worker_cpu     = 8192
    worker_memory  = 32768
    idle_timeout_s = 600
  }
  assert {
    condition = { for each in one(jsondecode(aws_ecs_task_definition.this["worker"].container_definitions)).environment : each.name => each.value } == {
      AWS_DEFAULT_REGION                         = "eu-central-1"
      CLOUDIMG_WORKER_MEMORY                     = "32768MiB"
      CLOUDIMG_WORKER_THREADS                    = "8"
      DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION = "true"
    }
    error_message = "A worker does not know its size."
  }
  assert {
    condition = { for each in one(jsondecode(aws_ecs_task_definition.this["scheduler"].container_definitions)).environment : each.name => each.value } == {
      AWS_DEFAULT_REGION                         = "eu-central-1"
      CLOUDIMG_IDLE_TIMEOUT_S                    = "600"
      DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION = "true"
    }
    error_message = "A scheduler does not know when to end."
  }
  assert {
    condition     = aws_ecs_task_definition.this["worker"].cpu == "8192" && aws_ecs_task_definition.this["worker"].memory == "32768"
    error_message = "A worker is of another size than it is told."
  }
}

run "memory_that_fargate_does_not_have_is_refused" {
  command = plan
  variables {
    worker_memory = 65536
  }
  expect_failures = [aws_ecs_task_definition.this]
}

run "logs_go_to_one_group_and_end" {
  variables {
    log_retention_days = 7
    log_kms_key_arn    = "arn:aws:kms:eu-central-1:123456789012:key/k"
  }
  assert {
    condition     = aws_cloudwatch_log_group.tasks.retention_in_days == 7 && aws_cloudwatch_log_group.tasks.kms_key_id == "arn:aws:kms:eu-central-1:123456789012:key/k"
    error_message = "Logs are kept for another time, or encrypted by another key."
  }
  assert {
    condition = alltrue([
      for name, task in aws_ecs_task_definition.this : one(jsondecode(task.container_definitions)).logConfiguration == {
        logDriver = "awslogs"
        options   = { awslogs-group = "/cloudimg/cloudimg", awslogs-region = "eu-central-1", awslogs-stream-prefix = name }
      }
    ])
    error_message = "Logs go elsewhere."
  }
}

run "tags_of_images_cannot_be_moved" {
  assert {
    condition     = aws_ecr_repository.images.image_tag_mutability == "IMMUTABLE" && one(aws_ecr_repository.images.image_scanning_configuration).scan_on_push
    error_message = "A tag may come to mean another image, or images are not scanned."
  }
}

run "the_tag_latest_is_refused" {
  command = plan
  variables {
    image_tag = "latest"
  }
  expect_failures = [var.image_tag]
}

run "no_budget_without_an_address" {
  assert {
    condition     = length(aws_budgets_budget.this) == 0
    error_message = "Nobody would hear of it."
  }
}

run "a_budget_warns_before_it_is_spent" {
  variables {
    budget_email       = "a@example.org"
    monthly_budget_usd = 300
  }
  assert {
    condition     = aws_budgets_budget.this[0].limit_amount == "300" && aws_budgets_budget.this[0].limit_unit == "USD" && aws_budgets_budget.this[0].time_unit == "MONTHLY"
    error_message = "The budget is of another amount or time."
  }
  assert {
    condition = toset([
      for each in aws_budgets_budget.this[0].notification :
      "${each.notification_type} ${each.comparison_operator} ${each.threshold} ${each.threshold_type} ${join(" ", each.subscriber_email_addresses)}"
      ]) == toset([
      "ACTUAL GREATER_THAN 80 PERCENTAGE a@example.org",
      "FORECASTED GREATER_THAN 100 PERCENTAGE a@example.org",
    ])
    error_message = "It warns at other times, or somebody else."
  }
}

run "cloudimg_is_told_all_it_needs" {
  variables {
    admin_cidr = "203.0.113.7/32"
  }
  assert {
    condition = jsondecode(jsonencode(output.cloudimg_cluster)) == {
      version                   = 1
      kind                      = "aws-ecs"
      region                    = "eu-central-1"
      cluster                   = "arn:aws:ecs:eu-central-1:123456789012:cluster/cloudimg"
      scheduler_task_definition = "arn:aws:ecs:eu-central-1:123456789012:task-definition/cloudimg-scheduler:1"
      worker_task_definition    = "arn:aws:ecs:eu-central-1:123456789012:task-definition/cloudimg-worker:1"
      container                 = "cloudimg"
      subnets                   = ["subnet-0", "subnet-1"]
      scheduler_security_groups = ["sg-members", "sg-scheduler"]
      worker_security_groups    = ["sg-members"]
      parameter_prefix          = "/cloudimg/cloudimg"
      image                     = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloudimg:0.1.0"
      driver_role               = "arn:aws:iam::123456789012:role/cloudimg-driver"
      log_group                 = "/cloudimg/cloudimg"
      is_reachable              = true
    }
    error_message = "The output is not what `cloudimg` reads."
  }
}
