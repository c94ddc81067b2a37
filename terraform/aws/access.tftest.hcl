# Who can reach what: from outside, and with each of the roles.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/cloudimg" }
  }
  mock_resource "aws_ecr_repository" {
    defaults = { arn = "arn:aws:ecr:eu-central-1:123456789012:repository/cloudimg" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/cloudimg/cloudimg" }
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

run "nothing_is_open_to_the_outside" {
  # Groups let nothing in by themselves, so what counts is that nothing is added: this is the whole
  # list of resources that could open, route or start something.
  assert {
    condition = toset(flatten([
      for file in fileset(path.module, "*.tf") : [
        for found in regexall("(?m)^resource\\s+\"([^\"]+)\"\\s+\"([^\"]+)\"", file("${path.module}/${file}")) : join(".", found)
      ]
      ])) == toset([
      "aws_budgets_budget.this",
      "aws_cloudwatch_log_group.tasks",
      "aws_default_security_group.closed",
      "aws_ecr_repository.images",
      "aws_ecs_cluster.this",
      "aws_ecs_cluster_capacity_providers.this",
      "aws_ecs_task_definition.this",
      "aws_iam_role.this",
      "aws_iam_role_policy.this",
      "aws_internet_gateway.this",
      "aws_route_table.public",
      "aws_route_table_association.public",
      "aws_s3_bucket.destination",
      "aws_s3_bucket_lifecycle_configuration.destination",
      "aws_s3_bucket_ownership_controls.destination",
      "aws_s3_bucket_policy.destination",
      "aws_s3_bucket_public_access_block.destination",
      "aws_s3_bucket_server_side_encryption_configuration.destination",
      "aws_s3_bucket_versioning.destination",
      "aws_security_group.members",
      "aws_security_group.scheduler",
      "aws_subnet.public",
      "aws_vpc.this",
      "aws_vpc_endpoint.s3",
      "aws_vpc_security_group_egress_rule.https",
      "aws_vpc_security_group_egress_rule.members",
      "aws_vpc_security_group_ingress_rule.admin",
      "aws_vpc_security_group_ingress_rule.members",
    ])
    error_message = "A resource was added (a NAT gateway, a service, a rule?): see what it opens or costs, then add it here."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.admin) == 0 && output.cloudimg_cluster.is_reachable == false
    error_message = "Without admin_cidr, nothing outside may reach the scheduler."
  }
  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.members.security_group_id == "sg-members" &&
      aws_vpc_security_group_ingress_rule.members.referenced_security_group_id == "sg-members" &&
      aws_vpc_security_group_ingress_rule.members.cidr_ipv4 == null &&
      aws_vpc_security_group_ingress_rule.members.cidr_ipv6 == null &&
      aws_vpc_security_group_ingress_rule.members.prefix_list_id == null
    )
    error_message = "Members are reached by others than members."
  }
  assert {
    # Rules inside of the groups would be a second list, beside the rules above.
    condition     = alltrue([for group in [aws_security_group.members, aws_security_group.scheduler, aws_default_security_group.closed] : length(group.ingress) == 0 && length(group.egress) == 0])
    error_message = "A group has rules of its own."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch == false])
    error_message = "Whatever is started in a subnet gets a public address."
  }
  assert {
    condition     = length(aws_subnet.public) == 2 && length(distinct(aws_subnet.public[*].availability_zone)) == 2 && length(distinct(aws_subnet.public[*].cidr_block)) == 2
    error_message = "Two subnets, in two zones."
  }
}

run "what_goes_out_is_https_or_to_members" {
  assert {
    condition = (
      aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443 &&
      aws_vpc_security_group_egress_rule.https.ip_protocol == "tcp"
    )
    error_message = "More than HTTPS goes out."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.members.referenced_security_group_id == "sg-members" && aws_vpc_security_group_egress_rule.members.cidr_ipv4 == null
    error_message = "Members reach others than members on any port."
  }
}

run "clients_reach_one_port_from_the_network_given" {
  variables {
    admin_cidr = "203.0.113.7/32"
  }
  assert {
    condition = jsonencode([
      for rule in aws_vpc_security_group_ingress_rule.admin :
      [rule.security_group_id, rule.cidr_ipv4, rule.cidr_ipv6, rule.ip_protocol, rule.from_port, rule.to_port]
    ]) == jsonencode([["sg-scheduler", "203.0.113.7/32", null, "tcp", 8786, 8786]])
    error_message = "Something else than tcp/8786 of the scheduler is open, or to others than those given."
  }
  assert {
    condition     = output.cloudimg_cluster.is_reachable && output.cloudimg_cluster.worker_security_groups == ["sg-members"]
    error_message = "Workers must not be reached from outside."
  }
}

run "the_world_is_refused" {
  command = plan
  variables {
    admin_cidr = "0.0.0.0/0"
  }
  expect_failures = [var.admin_cidr]
}

run "half_the_world_is_refused" {
  command = plan
  variables {
    admin_cidr = "128.0.0.0/1"
  }
  expect_failures = [var.admin_cidr]
}

run "the_world_of_ipv6_is_refused" {
  command = plan
  variables {
    admin_cidr = "::/0"
  }
  expect_failures = [var.admin_cidr]
}

run "what_is_no_network_is_refused" {
  command = plan
  variables {
    admin_cidr = "203.0.113.7"
  }
  expect_failures = [var.admin_cidr]
}

run "no_policy_has_wildcards" {
  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_role_policy.this)[*].policy, [aws_vpc_endpoint.s3.policy]) : [
        for statement in jsondecode(policy).Statement :
        statement.Effect == "Allow" && !strcontains(jsonencode(statement.Action), "*") && !contains(keys(statement), "NotAction") && !contains(keys(statement), "NotResource")
      ]
    ]))
    error_message = "An action has a wildcard, or is all but some."
  }
  assert {
    # Only what a name of ours is part of may end in *, and nothing else may have one.
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_role_policy.this)[*].policy, [aws_vpc_endpoint.s3.policy]) : [
        for statement in jsondecode(policy).Statement : [
          for resource in flatten([statement.Resource]) : anytrue([
            !strcontains(resource, "*"),
            startswith(resource, "arn:aws:s3:::source/scans/"),
            startswith(resource, "arn:aws:s3:::destination/zarr/"),
            resource == "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*",
            startswith(resource, "arn:aws:ssm:eu-central-1:123456789012:parameter/cloudimg/cloudimg/*"),
            resource == "arn:aws:logs:eu-central-1:123456789012:log-group:/cloudimg/cloudimg:*",
            resource == "arn:aws:ecs:eu-central-1:123456789012:task/cloudimg/*",
            resource == "arn:aws:ecs:eu-central-1:123456789012:container-instance/cloudimg/*",
            jsonencode(statement.Action) == "\"ecr:GetAuthorizationToken\"",
          ])
        ] if statement.Effect == "Allow"
      ]
    ]))
    error_message = "A resource is not limited to what belongs to this cluster."
  }
  assert {
    condition = length([
      for statement in flatten([for policy in values(aws_iam_role_policy.this)[*].policy : jsondecode(policy).Statement]) :
      statement if contains(flatten([statement.Resource]), "*")
    ]) == 1
    error_message = "Logging in to the registry is the one right that Amazon gives on * only."
  }
  assert {
    condition     = alltrue([for policy in values(aws_iam_role.this)[*].assume_role_policy : !strcontains(jsonencode([for each in jsondecode(policy).Statement : each.Principal]), "*")])
    error_message = "A role can be taken by anybody."
  }
}

run "workers_read_the_source_and_write_the_destination" {
  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_iam_role_policy.this["worker"].policy).Statement :
      "${join(" ", flatten([statement.Action]))} on ${join(" ", flatten([statement.Resource]))}"
      ]) == jsonencode([
      "ssm:GetParameter on arn:aws:ssm:eu-central-1:123456789012:parameter/cloudimg/cloudimg/*/worker/tls",
      "s3:GetObject on arn:aws:s3:::source/scans/*",
      "s3:ListBucket on arn:aws:s3:::source",
      "s3:GetObject s3:PutObject on arn:aws:s3:::destination/zarr/*",
      "s3:ListBucket on arn:aws:s3:::destination",
    ])
    error_message = "Workers have other rights than these."
  }
  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_iam_role_policy.this["worker"].policy).Statement :
      statement.Condition if statement.Action == "s3:ListBucket"
      ]) == jsonencode([
      { StringLike = { "s3:prefix" = "scans/*" } },
      { StringLike = { "s3:prefix" = "zarr/*" } },
    ])
    error_message = "Workers list more than the two prefixes."
  }
  assert {
    condition     = alltrue([for name in ["execution", "scheduler", "worker"] : !strcontains(aws_iam_role_policy.this[name].policy, "Delete")])
    error_message = "Only the driver may delete."
  }
}

run "schedulers_have_no_data" {
  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_iam_role_policy.this["scheduler"].policy).Statement :
      "${statement.Action} on ${statement.Resource}"
      ]) == jsonencode([
      "ssm:GetParameter on arn:aws:ssm:eu-central-1:123456789012:parameter/cloudimg/cloudimg/*/scheduler/tls",
      "ssm:PutParameter on arn:aws:ssm:eu-central-1:123456789012:parameter/cloudimg/cloudimg/*/address",
    ])
    error_message = "Schedulers have other rights than these."
  }
}

run "the_driver_starts_and_ends_these_tasks_only" {
  assert {
    condition = jsonencode({
      for statement in jsondecode(aws_iam_role_policy.this["driver"].policy).Statement :
      join(" ", flatten([statement.Action])) => sort(flatten([statement.Resource])) if !startswith(flatten([statement.Action])[0], "s3:")
      }) == jsonencode({
      "ecs:RunTask" = [
        "arn:aws:ecs:eu-central-1:123456789012:task-definition/cloudimg-scheduler:1",
        "arn:aws:ecs:eu-central-1:123456789012:task-definition/cloudimg-worker:1",
      ]
      "ecs:DescribeTasks ecs:StopTask" = ["arn:aws:ecs:eu-central-1:123456789012:task/cloudimg/*"]
      "ecs:ListTasks"                  = ["arn:aws:ecs:eu-central-1:123456789012:container-instance/cloudimg/*"]
      "iam:PassRole" = [
        "arn:aws:iam::123456789012:role/cloudimg-execution",
        "arn:aws:iam::123456789012:role/cloudimg-scheduler",
        "arn:aws:iam::123456789012:role/cloudimg-worker",
      ]
      "ssm:DeleteParameter ssm:DeleteParameters ssm:GetParameter ssm:PutParameter" = ["arn:aws:ssm:eu-central-1:123456789012:parameter/cloudimg/cloudimg/*"]
    })
    error_message = "The driver has other rights than these."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.this["driver"].policy).Statement :
      jsonencode(statement.Condition) == jsonencode({ ArnEquals = { "ecs:cluster" = "arn:aws:ecs:eu-central-1:123456789012:cluster/cloudimg" } })
      if startswith(flatten([statement.Action])[0], "ecs:")
    ])
    error_message = "The driver can start or end tasks of other clusters."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.this["driver"].policy).Statement :
      statement.Condition.StringEquals["iam:PassedToService"] == "ecs-tasks.amazonaws.com" if statement.Action == "iam:PassRole"
    ])
    error_message = "The driver can give these roles to other services."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.this["driver"].policy).Statement :
      statement.Resource if strcontains(jsonencode(statement.Action), "s3:Delete")
    ] == ["arn:aws:s3:::destination/zarr/*"]
    error_message = "The driver deletes elsewhere than in the destination."
  }
}

run "roles_are_taken_by_tasks_and_by_the_account" {
  assert {
    condition = alltrue([
      for name in ["execution", "scheduler", "worker"] : jsondecode(aws_iam_role.this[name].assume_role_policy).Statement == [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
        Condition = {
          StringEquals = { "aws:SourceAccount" = "123456789012" }
          ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:eu-central-1:123456789012:*" }
        }
      }]
    ])
    error_message = "Others than this account's tasks can take these roles."
  }
  assert {
    condition     = jsondecode(aws_iam_role.this["driver"].assume_role_policy).Statement[0].Principal.AWS == ["arn:aws:iam::123456789012:root"]
    error_message = "Without driver_principals, the account's own policies decide."
  }
}

run "the_driver_s_role_is_for_those_given" {
  variables {
    driver_principals = ["arn:aws:iam::123456789012:role/scientist"]
  }
  assert {
    condition     = jsondecode(aws_iam_role.this["driver"].assume_role_policy).Statement[0].Principal.AWS == ["arn:aws:iam::123456789012:role/scientist"]
    error_message = "Others can take the driver's role."
  }
}

run "everybody_as_a_driver_is_refused" {
  command = plan
  variables {
    driver_principals = ["*"]
  }
  expect_failures = [var.driver_principals]
}

run "the_way_to_s3_leads_to_three_buckets" {
  assert {
    condition = toset(flatten([
      for statement in jsondecode(aws_vpc_endpoint.s3.policy).Statement : statement.Resource
      ])) == toset([
      "arn:aws:s3:::source",
      "arn:aws:s3:::source/scans/*",
      "arn:aws:s3:::destination",
      "arn:aws:s3:::destination/zarr/*",
      "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*",
    ])
    error_message = "Other buckets are reached, or the image cannot be pulled."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-central-1.s3" && length(aws_vpc_endpoint.s3.route_table_ids) == 1
    error_message = "Objects would go by way of the internet gateway, or the endpoint cost money."
  }
}

run "a_destination_within_the_source_is_refused" {
  command = plan
  variables {
    destination_bucket        = "source"
    destination_prefix        = "scans/zarr/"
    create_destination_bucket = false
  }
  expect_failures = [aws_iam_role_policy.this]
}

run "a_source_within_the_destination_is_refused" {
  command = plan
  variables {
    destination_bucket        = "source"
    destination_prefix        = ""
    create_destination_bucket = false
  }
  expect_failures = [aws_iam_role_policy.this]
}

run "two_prefixes_of_one_bucket_are_fine" {
  command = plan
  variables {
    destination_bucket        = "source"
    create_destination_bucket = false
  }
  assert {
    condition     = length(aws_s3_bucket.destination) == 0
    error_message = "A bucket is made that is there already."
  }
}

run "a_prefix_that_opens_its_neighbours_is_refused" {
  command = plan
  variables {
    source_prefix      = "scans"
    destination_prefix = "zarr"
  }
  expect_failures = [var.source_prefix, var.destination_prefix]
}

run "wildcards_and_variables_of_policies_are_refused" {
  command = plan
  variables {
    source_bucket      = "*"
    source_prefix      = "*/"
    destination_prefix = "$${aws:username}/"
  }
  expect_failures = [var.source_bucket, var.source_prefix, var.destination_prefix]
}
