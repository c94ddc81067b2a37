# Who may do what, as JSON. No provider and no resource is needed to render it.
#
# An action is always named in full. A resource is named as closely as Amazon allows; where it ends
# in *, the part before it holds the name of this cluster, or a bucket and prefix that were given.

locals {
  source      = "arn:${var.partition}:s3:::${var.source_bucket}"
  destination = "arn:${var.partition}:s3:::${var.destination_bucket}"
  parameters  = "arn:${var.partition}:ssm:${var.region}:${var.account_id}:parameter${var.parameter_prefix}"
  ecs         = "arn:${var.partition}:ecs:${var.region}:${var.account_id}"

  in_cluster = { ArnEquals = { "ecs:cluster" = var.cluster_arn } }

  # Listing is more than a convenience: without the right to list, S3 answers "forbidden" instead of
  # "not found" for an object that is not there, and a job could not tell what is still to be done.
  read_source = [
    {
      Sid      = "ReadSource"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = "${local.source}/${var.source_prefix}*"
    },
    {
      Sid       = "ListSource"
      Effect    = "Allow"
      Action    = "s3:ListBucket"
      Resource  = local.source
      Condition = { StringLike = { "s3:prefix" = "${var.source_prefix}*" } }
    },
  ]
  write_destination = [
    {
      Sid      = "WriteDestination"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = "${local.destination}/${var.destination_prefix}*"
    },
    {
      Sid       = "ListDestination"
      Effect    = "Allow"
      Action    = "s3:ListBucket"
      Resource  = local.destination
      Condition = { StringLike = { "s3:prefix" = "${var.destination_prefix}*" } }
    },
  ]
  # S3 asks the key service in the name of whoever reads or writes; the key must open nothing else.
  use_key = var.kms_key_arn == null ? [] : [{
    Sid       = "UseKeyOfDestination"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = var.kms_key_arn
    Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
  }]
  delete_in_destination = [{
    Sid      = "DeleteInDestination"
    Effect   = "Allow"
    Action   = "s3:DeleteObject"
    Resource = "${local.destination}/${var.destination_prefix}*"
  }]

  # Each job has a folder of its own below the prefix, with a certificate for each role: ROLE/tls. All
  # jobs have the same roles, so each is encrypted with a secret that only its own tasks are given.
  # The client's, in client, is not for tasks.
  read_certificate = {
    for role in ["scheduler", "worker"] : role => [{
      Sid      = "ReadCertificate"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "${local.parameters}/*/${role}/tls"
    }]
  }

  execution = [
    {
      # The one right that Amazon gives on "*" only: a password for the registry, which opens no
      # repository by itself. It has a statement of its own so that nothing else slips in.
      Sid      = "LogInToRegistry"
      Effect   = "Allow"
      Action   = "ecr:GetAuthorizationToken"
      Resource = "*"
    },
    {
      Sid      = "PullImage"
      Effect   = "Allow"
      Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Resource = var.repository_arn
    },
    {
      Sid      = "WriteLogs"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${var.log_group_arn}:*"
    },
  ]

  scheduler = concat(local.read_certificate["scheduler"], [{
    Sid      = "TellAddress"
    Effect   = "Allow"
    Action   = "ssm:PutParameter"
    Resource = "${local.parameters}/*/address"
  }])

  worker = concat(local.read_certificate["worker"], local.read_source, local.write_destination, local.use_key)

  # It plans, holds the lease and checks, so it needs what workers do; and deletes: what
  # `--overwrite` replaces, and a lease where nothing came of it.
  driver = concat(local.read_source, local.write_destination, local.delete_in_destination, local.use_key, [
    {
      Sid       = "StartTasks"
      Effect    = "Allow"
      Action    = "ecs:RunTask"
      Resource  = var.task_definitions
      Condition = local.in_cluster
    },
    {
      Sid       = "WatchAndEndTasks"
      Effect    = "Allow"
      Action    = ["ecs:DescribeTasks", "ecs:StopTask"]
      Resource  = "${local.ecs}:task/${var.cluster_name}/*"
      Condition = local.in_cluster
    },
    {
      # Amazon asks about listings with a container instance, on Fargate too, which has none.
      Sid       = "ListTasks"
      Effect    = "Allow"
      Action    = "ecs:ListTasks"
      Resource  = "${local.ecs}:container-instance/${var.cluster_name}/*"
      Condition = local.in_cluster
    },
    {
      Sid       = "GiveTasksTheirRoles"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = var.passed_roles
      Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
    },
    {
      Sid      = "KeepCertificateAndAddress"
      Effect   = "Allow"
      Action   = ["ssm:DeleteParameter", "ssm:DeleteParameters", "ssm:GetParameter", "ssm:PutParameter"]
      Resource = "${local.parameters}/*"
    },
  ])

  # Tasks of this account's ECS only: Amazon's service must not be talked into it by another account.
  trust_tasks = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = "ecs-tasks.amazonaws.com" }
    Condition = {
      StringEquals = { "aws:SourceAccount" = var.account_id }
      ArnLike      = { "aws:SourceArn" = "${local.ecs}:*" }
    }
  }]

  trust_driver = [{
    Effect = "Allow"
    Action = "sts:AssumeRole"
    Principal = {
      AWS = length(var.driver_principals) > 0 ? var.driver_principals : ["arn:${var.partition}:iam::${var.account_id}:root"]
    }
  }]

  # What passes the network's way to S3, whoever asks; who may ask is what the roles say. The last
  # bucket is Amazon's own for this region, where the registry keeps the layers of images.
  endpoint = [
    for each in concat(local.read_source, local.write_destination, local.delete_in_destination, [{
      Sid      = "PullImage"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = "arn:${var.partition}:s3:::prod-${var.region}-starport-layer-bucket/*"
    }]) : merge(each, { Principal = "*" })
  ]

  # A refusal, so that here the wildcards make it stricter.
  bucket = [{
    Sid       = "RefusePlainHttp"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [local.destination, "${local.destination}/*"]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }]
}
