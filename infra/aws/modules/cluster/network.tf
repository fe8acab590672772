# Which connections are allowed. Nothing comes in from outside the VPC, and only HTTPS goes out.
resource "aws_security_group" "nodes" {
  name        = "${var.name}-nodes"
  description = "All nodes"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-nodes" }
}

resource "aws_security_group" "server" {
  name        = "${var.name}-server"
  description = "The k3s server"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-server" }
}

locals {
  between_nodes = {
    "pods"     = { protocol = "udp", port = 8472 }
    "kubelets" = { protocol = "tcp", port = 10250 }
  }
}

resource "aws_vpc_security_group_ingress_rule" "between_nodes" {
  for_each                     = local.between_nodes
  security_group_id            = aws_security_group.nodes.id
  description                  = each.key
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "between_nodes" {
  for_each                     = local.between_nodes
  security_group_id            = aws_security_group.nodes.id
  description                  = each.key
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "kubernetes" {
  security_group_id            = aws_security_group.server.id
  description                  = "Kubernetes"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = 6443
  to_port                      = 6443
}

resource "aws_vpc_security_group_egress_rule" "kubernetes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Kubernetes"
  referenced_security_group_id = aws_security_group.server.id
  ip_protocol                  = "tcp"
  from_port                    = 6443
  to_port                      = 6443
}

# k3s releases, GitHub's signing keys, public data, and AWS's own services have no fixed addresses.
#trivy:ignore:AWS-0104
resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.nodes.id
  description       = "AWS, releases, data"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "entry" {
  for_each                     = var.node_ports
  security_group_id            = aws_security_group.nodes.id
  description                  = "from the load balancer: ${each.key}"
  referenced_security_group_id = var.entry_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_egress_rule" "entry" {
  for_each                     = var.node_ports
  security_group_id            = var.entry_security_group_id
  description                  = "to the nodes: ${each.key}"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  count                        = var.database == null ? 0 : 1
  security_group_id            = var.database.security_group_id
  description                  = "Postgres"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_egress_rule" "database" {
  count                        = var.database == null ? 0 : 1
  security_group_id            = aws_security_group.nodes.id
  description                  = "Postgres"
  referenced_security_group_id = var.database.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
