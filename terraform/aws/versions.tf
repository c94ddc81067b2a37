terraform {
  required_version = ">= 1.7"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.25.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      app  = "cloudimg"
      name = var.name
    }
  }
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}
