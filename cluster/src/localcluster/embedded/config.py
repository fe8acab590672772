"""The command line and the configuration file of every component of the node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from localcluster.embedded import builder, pki
from localcluster.embedded.binaries import Binaries
from localcluster.embedded.node import Component

NODE = "credit-risk"
ADDRESS = "10.200.0.2"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
POD_RANGE = "10.244.0.0/24"
API_PORT = 6443
API_NAMES = ("127.0.0.1", "localhost", ADDRESS, API_SERVICE, "kubernetes", "kubernetes.default",
             "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")  # fmt: skip


@dataclass(frozen=True)
class Forward:
    """A listening socket of the host, inherited by the node, and the node's port it leads to."""

    name: str
    host_port: int
    fd: int
    node_port: int


@dataclass(frozen=True)
class Layout:
    """Folders of a node's state."""

    root: Path

    def folder(self, name: str) -> Path:
        """Return a folder of the state; create it if it is missing."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, name: str, text: str) -> str:
        """Write a configuration file and return its path."""
        file = self.folder("config") / name
        file.write_text(text)
        return str(file)


def binds(layout: Layout) -> dict[str, str]:
    """Return bind mounts, source to mount point, for fixed paths that the node must not share with the host."""
    return {
        str(layout.folder("pod-logs")): "/var/log/pods",
        str(layout.folder("container-logs")): "/var/log/containers",
        str(layout.folder("cni-state")): "/var/lib/cni",
        str(layout.folder("volumes")): "/tmp/hostpath_pv",  # noqa: S108 - fixed by Kubernetes; a private mount
    }


class Configuration:
    """Writes a node's keys and configuration files and defines how its components are started."""

    def __init__(
        self, layout: Layout, binaries: Binaries, forwards: list[Forward], containerd: Path, store: Path, cgroup: str
    ) -> None:
        """Create the certificate authority, the keys, and the administrator's kubeconfig for the host.

        Args:
            layout: Folders of the node's state.
            binaries: The node's programs.
            forwards: Ports of the host that lead to the node.
            containerd: containerd's socket.
            store: containerd's image store; it outlives the node, so that no image is unpacked twice.
            cgroup: Name of the cgroup of all pods.
        """
        self._layout = layout
        self._binaries = binaries
        self._forwards = forwards
        self._socket = containerd
        self._store = store
        self._cgroup = cgroup
        self._authority = pki.Authority(layout.folder("pki"))
        self._token_key, self._token_public = pki.service_account_keys(layout.folder("pki"))
        admin = pki.Identity("credit-risk-admin", ("system:masters",))
        local = next(f"https://127.0.0.1:{f.host_port}" for f in forwards if f.node_port == API_PORT)
        self._authority.kubeconfig(layout.root / "kubeconfig", admin, local)

    def components(self) -> list[Component]:
        """Return the node's components in start order."""
        environment = {"PATH": self._binaries.search_path, "HOME": str(self._layout.folder("home"))}
        libraries = {"LD_LIBRARY_PATH": self._binaries.library_path}
        traefik = {"KUBECONFIG": self._kubeconfig("traefik", "system:traefik")}
        return [
            Component("haproxy", self._haproxy(), libraries),
            Component("containerd", self._containerd(), environment),
            Component("etcd", self._etcd(), wait_port=2379),
            Component("kube-apiserver", self._apiserver(), wait_port=API_PORT),
            Component("kubelet", self._kubelet(), environment),
            Component("kube-controller-manager", self._controller_manager()),
            Component("kube-scheduler", self._scheduler()),
            Component("kube-proxy", self._proxy(), environment),
            Component("coredns", self._coredns()),
            Component("traefik", self._traefik(), traefik),
        ]

    def _kubeconfig(self, name: str, user: str, *groups: str) -> str:
        file = self._layout.folder("config") / f"{name}.kubeconfig"
        server = f"https://{ADDRESS}:{API_PORT}"
        return str(self._authority.kubeconfig(file, pki.Identity(user, groups), server))

    def _haproxy(self) -> list[str]:
        sections = [
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  maxconn 2000\n"
        ]
        for forward in self._forwards:
            server = f"server node {ADDRESS}:{forward.node_port}"
            sections.append(f"listen {forward.name}\n  bind fd@{forward.fd}\n  {server}\n")
        configuration = self._layout.write("haproxy.cfg", "\n".join(sections))
        return [self._binaries.path("haproxy"), "-db", "-f", configuration]

    def _etcd(self) -> list[str]:
        data = self._layout.folder("etcd")
        client = "http://127.0.0.1:2379"
        # The cluster is disposable: losing the last writes in a power failure does not matter.
        return [
            self._binaries.path("etcd"), f"--data-dir={data}", "--unsafe-no-fsync", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", "--listen-peer-urls=http://127.0.0.1:2380",
        ]  # fmt: skip

    def _containerd(self) -> list[str]:
        cni = self._layout.folder("cni")
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
                    "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]],
                             "routes": [{"dst": "0.0.0.0/0"}]},
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }  # fmt: skip
        (cni / "10-pods.conflist").write_text(json.dumps(network, indent=1))
        configuration = self._layout.write(
            "containerd.toml",
            CONTAINERD.format(
                root=self._store,
                socket=self._socket,
                pause=builder.PAUSE.reference(builder.PYTHON_PACKAGES),
                plugins=self._binaries.cni,
                cni=cni,
                runc=self._binaries.path("runc"),
            ),
        )
        return [self._binaries.path("containerd"), "--config", configuration]

    def _apiserver(self) -> list[str]:
        serving = self._authority.issue("apiserver", pki.Identity("kube-apiserver"), API_NAMES)
        to_kubelet = self._authority.issue("apiserver-to-kubelet", pki.Identity("kube-apiserver", ("system:masters",)))
        options = {
            "etcd-servers": "http://127.0.0.1:2379",
            "bind-address": "0.0.0.0",  # noqa: S104 - inside the node's own network namespace
            "advertise-address": ADDRESS,
            "secure-port": API_PORT,
            "tls-cert-file": serving[0],
            "tls-private-key-file": serving[1],
            "client-ca-file": self._authority.certificate,
            "kubelet-certificate-authority": self._authority.certificate,
            "kubelet-client-certificate": to_kubelet[0],
            "kubelet-client-key": to_kubelet[1],
            "kubelet-preferred-address-types": "InternalIP",
            "service-cluster-ip-range": SERVICE_RANGE,
            "service-account-key-file": self._token_public,
            "service-account-signing-key-file": self._token_key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            # Compiled in by a patch, for CoreDNS.
            "runtime-config": "discovery.k8s.io/v1=true",
            "allow-privileged": "true",
        }
        return [self._binaries.path("kube-apiserver"), *_flags(options)]

    def _controller_manager(self) -> list[str]:
        options = {
            "kubeconfig": self._kubeconfig("controller-manager", "system:kube-controller-manager"),
            "service-account-private-key-file": self._token_key,
            "root-ca-file": self._authority.certificate,
            "use-service-account-credentials": "true",
            # Though there is no other: one that loses its Lease, because the API server is away, starts again. If it
            # went on, it would count the time away as the kubelet's silence, and all pods as not ready.
            "leader-elect": "true",
            "enable-hostpath-provisioner": "true",
        }
        return [self._binaries.path("kube-controller-manager"), *_flags(options)]

    def _scheduler(self) -> list[str]:
        kubeconfig = self._kubeconfig("scheduler", "system:kube-scheduler")
        return [self._binaries.path("kube-scheduler"), *_flags({"kubeconfig": kubeconfig, "leader-elect": "false"})]

    def _kubelet(self) -> list[str]:
        serving = self._authority.issue("kubelet", pki.Identity(f"system:node:{NODE}"), (NODE, ADDRESS))
        document = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving[0]),
            "tlsPrivateKeyFile": str(serving[1]),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}",
            "failSwapOn": False,
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": self._layout.write("resolv.conf", ""),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            # Images are only imported from the host's cache: a garbage-collected image could not be pulled again.
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": str(self._layout.folder("volume-plugins")),
        }
        options = {
            "config": self._layout.write("kubelet.yaml", yaml.safe_dump(document)),
            "kubeconfig": self._kubeconfig("kubelet", f"system:node:{NODE}", "system:nodes"),
            "root-dir": self._layout.folder("kubelet"),
            "cert-dir": self._layout.folder("kubelet-certificates"),
            "container-runtime": "remote",
            "container-runtime-endpoint": f"unix://{self._socket}",
            "hostname-override": NODE,
            "node-ip": ADDRESS,
        }
        return [self._binaries.path("kubelet"), *_flags(options)]

    def _proxy(self) -> list[str]:
        options = {
            "kubeconfig": self._kubeconfig("proxy", "system:kube-proxy"),
            "proxy-mode": "iptables",
            "cluster-cidr": POD_RANGE,
            "hostname-override": NODE,
            "conntrack-max-per-core": 0,
            "conntrack-tcp-timeout-established": 0,
            "conntrack-tcp-timeout-close-wait": 0,
        }
        return [self._binaries.path("kube-proxy"), *_flags(options)]

    def _coredns(self) -> list[str]:
        corefile = f""".:53 {{
    bind {ADDRESS}
    errors
    kubernetes cluster.local {{
        kubeconfig {self._kubeconfig("coredns", "system:coredns")}
    }}
    cache 5
}}
"""
        return [self._binaries.path("coredns"), "-conf", self._layout.write("Corefile", corefile)]

    def _traefik(self) -> list[str]:
        return [
            self._binaries.path("traefik"),
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--providers.kubernetesingress=true",
            "--providers.kubernetesingress.ingressclass=traefik",
            f"--providers.file.filename={self._layout.write('traefik.yaml', MIDDLEWARES)}",
            *(
                f"--entrypoints.{forward.name}.address=:{forward.node_port}"
                for forward in self._forwards
                if forward.node_port != API_PORT
            ),
        ]


def _flags(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


# Requests in flight on a pod that is killed are lost, and a restarting pod responds 503. Scoring has no side effects,
# so Traefik may retry such requests if an Ingress has the annotation
# traefik.ingress.kubernetes.io/router.middlewares: resend@file. With two pods, every other attempt may hit the dead
# one.
MIDDLEWARES = """http:
  middlewares:
    resend:
      buffering: {retryExpression: "(IsNetworkError() || ResponseCode() == 503) && Attempts() < 6"}
"""
CONTAINERD = """version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
                    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE, not even root may lower a process's OOM score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"""
