# One output each: a role's trust must not wait for what another role's rights are made of.

output "execution" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.execution })
}

output "scheduler" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.scheduler })
}

output "worker" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.worker })
}

output "driver" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.driver })
}

output "trust_tasks" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.trust_tasks })
}

output "trust_driver" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.trust_driver })
}

output "endpoint" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.endpoint })
}

output "bucket" {
  value = jsonencode({ Version = "2012-10-17", Statement = local.bucket })
}
