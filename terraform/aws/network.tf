# The network. Tasks have public addresses of their own, since images and logs are reached by way of
# the internet gateway: a NAT gateway would cost money every hour, used or not. An address opens
# nothing; what may come in is only what the security groups say.

data "aws_availability_zones" "here" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"] # no Local Zones: Fargate is not in them
  }
}

resource "aws_vpc" "this" {
  cidr_block           = "10.80.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "public" {
  count                   = 2
  vpc_id                  = aws_vpc.this.id
  cidr_block              = cidrsubnet(aws_vpc.this.cidr_block, 4, count.index) # 4,091 tasks each
  availability_zone       = data.aws_availability_zones.here.names[count.index]
  map_public_ip_on_launch = false # `cloudimg` asks for an address, task by task
  tags                    = { Name = "${var.name}-${count.index}" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this.id
  }
}

resource "aws_route_table_association" "public" {
  count          = length(aws_subnet.public)
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

# Objects do not leave Amazon's network, and tasks reach no other bucket by it.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  vpc_endpoint_type = "Gateway" # costs nothing
  service_name      = "com.amazonaws.${var.region}.s3"
  route_table_ids   = [aws_route_table.public.id]
  policy            = module.policies.endpoint
}

# Without rules of its own, this takes away those that Amazon puts in: whatever is started without
# a security group can neither reach nor be reached.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
}

resource "aws_security_group" "members" {
  name        = "${var.name}-members"
  description = "Schedulers and workers: they talk to each other, and nobody else to them"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-members" }
}

resource "aws_vpc_security_group_ingress_rule" "members" {
  # checkov:skip=CKV_AWS_24:open to members only; checkov does not know referenced_security_group_id
  # checkov:skip=CKV_AWS_25:open to members only; checkov does not know referenced_security_group_id
  # checkov:skip=CKV_AWS_260:open to members only; checkov does not know referenced_security_group_id
  security_group_id            = aws_security_group.members.id
  description                  = "From members; workers listen on any port"
  referenced_security_group_id = aws_security_group.members.id
  ip_protocol                  = "tcp"
  from_port                    = 0
  to_port                      = 65535
}

resource "aws_vpc_security_group_egress_rule" "members" {
  security_group_id            = aws_security_group.members.id
  description                  = "To members"
  referenced_security_group_id = aws_security_group.members.id
  ip_protocol                  = "tcp"
  from_port                    = 0
  to_port                      = 65535
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.members.id
  description       = "S3, image, logs, parameters, and what is my address"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_security_group" "scheduler" {
  name        = "${var.name}-scheduler"
  description = "Schedulers, besides: clients from admin_cidr, by mutual TLS"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-scheduler" }
}

resource "aws_vpc_security_group_ingress_rule" "admin" {
  count             = var.admin_cidr == null ? 0 : 1
  security_group_id = aws_security_group.scheduler.id
  description       = "Clients, by mutual TLS"
  cidr_ipv4         = var.admin_cidr
  ip_protocol       = "tcp"
  from_port         = 8786
  to_port           = 8786
}
