from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import yaml

from localcluster.__main__ import choose
from localcluster.paths import REPOSITORY
from unit.localcluster.fakes import put


def test_kind_is_started_once_with_the_hosts_ports_and_traefik(programs: Path) -> None:
    put(programs, "kind", f'''
case "$1 $2" in
  "get clusters") [ -e {programs}/clusters ] && echo credit-risk; true ;;
  "create cluster") while [ $# -gt 0 ]; do [ "$1" = --config ] && read_from=$2; shift; done
                    while IFS= read -r line; do echo "$line"; done < "$read_from" >> {programs}/config
                    echo credit-risk > {programs}/clusters ;;
esac''')  # fmt: skip
    cluster = choose("kind")
    cluster.paths.tools.mkdir(parents=True, exist_ok=True)
    for name in ("helm", "kubectl"):
        put(cluster.paths.tools, name, f'echo "$@" >> {programs}/applied')
    cluster.up()
    cluster.up()
    (document,) = yaml.safe_load_all((programs / "config").read_text())
    (node,) = document["nodes"]
    mapped = {mapping["containerPort"]: mapping["hostPort"] for mapping in node["extraPortMappings"]}
    assert mapped == {8080: cluster.ports.http, 5000: cluster.ports.mlflow}
    assert {mapping["listenAddress"] for mapping in node["extraPortMappings"]} == {"127.0.0.1"}
    assert "traefik.yaml" in (programs / "applied").read_text()


def test_kinds_ingress_controller_matches_the_newest_schemas() -> None:
    version = kubernetes_validate.latest_version().rpartition(".")[0]
    documents = list(yaml.safe_load_all((REPOSITORY / "cluster/kind/traefik.yaml").read_text()))
    assert {"Deployment", "IngressClass"} <= {document["kind"] for document in documents}
    for document in documents:
        # Raises unless the document is valid.
        kubernetes_validate.validate(document, version, strict=True)
