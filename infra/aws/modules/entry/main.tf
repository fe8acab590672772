# Where clients connect: HTTPS at a load balancer, which forwards to Traefik on every node, again over TLS.
variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the load balancer, one per zone."
  type        = list(string)
}

variable "domain" {
  description = "Host name of the service."
  type        = string
}

variable "zone_id" {
  description = "Route 53 hosted zone of the domain."
  type        = string
}

variable "allowed_cidrs" {
  description = "Networks that may reach the load balancer."
  type        = set(string)
}

variable "deletion_protection" {
  description = "Protect the load balancer from deletion."
  type        = bool
}

locals {
  # As in manifests/k3s-traefik.yaml.
  node_ports = { https = 30443, ping = 30081 }
  open_ports = { for pair in setproduct(var.allowed_cidrs, [80, 443]) : "${pair[0]} ${pair[1]}" => { cidr = pair[0], port = pair[1] } }
}

resource "aws_security_group" "this" {
  name        = "${var.name}-entry"
  description = "The load balancer"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-entry" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each          = local.open_ports
  security_group_id = aws_security_group.this.id
  description       = "clients"
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_acm_certificate" "this" {
  domain_name       = var.domain
  validation_method = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  for_each = {
    for option in aws_acm_certificate.this.domain_validation_options : option.domain_name => {
      name  = option.resource_record_name
      type  = option.resource_record_type
      value = option.resource_record_value
    }
  }
  zone_id = var.zone_id
  name    = each.value.name
  type    = each.value.type
  records = [each.value.value]
  ttl     = 300
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [for record in aws_route53_record.validation : record.fqdn]
}

# Lending applications are outside the VPC; allowed_cidrs limits which networks reach the load balancer.
#trivy:ignore:AWS-0053
resource "aws_lb" "this" {
  name                       = var.name
  load_balancer_type         = "application"
  subnets                    = var.subnet_ids
  security_groups            = [aws_security_group.this.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
}

resource "aws_lb_target_group" "this" {
  name                 = "${var.name}-nodes"
  vpc_id               = var.vpc_id
  target_type          = "instance"
  protocol             = "HTTPS"
  port                 = local.node_ports.https
  deregistration_delay = 30
  # Only the node's own Traefik answers, because its Service keeps requests on the node where they arrive; it stops
  # answering as soon as it is told to shut down. The readiness of scoring pods is left to Kubernetes: checked here, a
  # bad release would take all nodes out of service at once.
  health_check {
    protocol            = "HTTP"
    port                = local.node_ports.ping
    path                = "/ping"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_lb_listener" "redirect" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"
  default_action {
    type = "redirect"
    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_route53_record" "this" {
  zone_id = var.zone_id
  name    = var.domain
  type    = "A"
  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}

output "target_group_arn" {
  description = "ARN of the target group where nodes register."
  value       = aws_lb_target_group.this.arn
}

output "security_group_id" {
  description = "Security group of the load balancer."
  value       = aws_security_group.this.id
}

output "node_ports" {
  description = "Ports of the nodes that the load balancer uses."
  value       = local.node_ports
}
