# One server, whose address and data disk survive it: a replacement continues where the old one stopped.
locals {
  files = { for file in ["lib.sh", "server.sh", "agent.sh", "drain.sh"] : file => file("${path.module}/files/${file}") }

  node_environment = {
    NODE_NAME_PREFIX     = var.name
    AWS_REGION           = var.region
    K3S_VERSION          = var.k3s_version
    SERVER_ADDRESS       = aws_network_interface.server.private_ip
    JOIN_TOKEN_PARAMETER = aws_ssm_parameter.join_token.name
  }

  server_environment = merge(local.node_environment, {
    NAMESPACE              = var.namespace
    DATA_VOLUME            = aws_ebs_volume.data.id
    SERVER_TOKEN_PARAMETER = aws_ssm_parameter.token["server"].name
    AGENT_TOKEN_PARAMETER  = aws_ssm_parameter.token["agent"].name
    BACKUP_BUCKET          = var.backup_bucket
    IDENTITY_BUCKET        = var.identity_bucket
    ISSUER                 = var.issuer
    GITHUB_REPOSITORY_ID   = tostring(var.github.repository_id)
    GITHUB_ENVIRONMENT     = var.github.environment
    AGENT_GROUP            = local.agent_group
    DRAIN_HOOK             = local.drain_hook
    }, var.database == null ? {} : {
    DATABASE_NAME               = var.database.name
    DATABASE_USERNAME           = var.database.username
    DATABASE_PASSWORD_PARAMETER = var.database.password_parameter
  })

  server_user_data = join("\n", ["#cloud-config", yamlencode({
    write_files = concat(
      [{ path = "/etc/creditrisk/node.env", permissions = "0600", content = join("", [for key, value in local.server_environment : "${key}='${value}'\n"]) }],
      [for file in ["lib.sh", "server.sh", "drain.sh"] : {
        path = "/opt/creditrisk/${file}", permissions = "0755", encoding = "gz+b64", content = base64gzip(local.files[file])
      }],
      [for file, content in var.manifests : {
        path = "/opt/creditrisk/manifests/${file}", permissions = "0600", encoding = "gz+b64", content = base64gzip(content)
      }],
    )
    runcmd = [["/opt/creditrisk/server.sh"]]
  })])
}

# The newest image when the server is created; later ones do not replace the server.
data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_network_interface" "server" {
  subnet_id       = var.subnets[0].id
  security_groups = [aws_security_group.nodes.id, aws_security_group.server.id]
  tags            = { Name = "${var.name}-server" }
}

# Here and elsewhere, data is encrypted with AWS-owned keys. Customer-managed keys would cost a dollar a month each, and
# anyone who may read the data could use them anyway.
#trivy:ignore:AWS-0027
resource "aws_ebs_volume" "data" {
  availability_zone = var.subnets[0].zone
  type              = "gp3"
  size              = var.server_disk_gib
  snapshot_id       = var.server_disk_snapshot_id
  encrypted         = true
  tags              = { Name = "${var.name}-data" }
}

resource "aws_instance" "server" {
  ami                         = data.aws_ssm_parameter.image.insecure_value
  instance_type               = var.server_instance_type
  iam_instance_profile        = var.server_instance_profile
  user_data                   = local.server_user_data
  user_data_replace_on_change = true
  tags                        = { Name = "${var.name}-server" }
  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.server.id
  }
  # One hop: a pod, which is one hop further away, cannot assume the node's role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
  }
  lifecycle {
    ignore_changes = [ami]
    precondition {
      condition     = length(local.server_user_data) < 16384
      error_message = "The server's user data has ${length(local.server_user_data)} bytes; EC2 allows fewer than 16384."
    }
  }
}

resource "aws_volume_attachment" "data" {
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.data.id
  instance_id = aws_instance.server.id
  # k3s must release the disk before the next server mounts it.
  stop_instance_before_detaching = true
}

resource "aws_lb_target_group_attachment" "server" {
  target_group_arn = var.target_group_arn
  target_id        = aws_instance.server.id
}

output "server_instance_id" {
  description = "Instance ID of the server."
  value       = aws_instance.server.id
}

output "data_volume_id" {
  description = "The server's data disk, which survives a replacement of the server."
  value       = aws_ebs_volume.data.id
}
