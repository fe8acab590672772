#!/usr/bin/env python3
"""Build and push the stack's images, and write the digests to deploy them by.

    images.py --registry ACCOUNT.dkr.ecr.REGION.amazonaws.com/credit-risk --out images.json
    images.py --registry ghcr.io/OWNER/credit-risk --tag 1.2.3 --platform linux/amd64,linux/arm64 --out images.json

Without --tag, an image's tag is the hash of its inputs, and an image that ECR already has is not built again. Needs
docker with buildx, logged in to the registry, and the AWS CLI for ECR. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "cluster" / "src"))
from localcluster.images import ALL, Image

BASE_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
# The CPU build of torch is not on every index.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
MISSING = "ImageNotFound"
# The lock has the CPU build of torch for x86-64 only; the arm64 build on the index brings gigabytes of CUDA.
X86_ONLY = {"training"}


def main() -> int:
    """Build the missing images and write their references."""
    arguments = _parser().parse_args()
    base = base_by_digest()
    images = {}
    for image in ALL:
        repository = f"{arguments.registry}/{image.name}"
        tag = arguments.tag or image.content_hash(base)
        digest = None if arguments.tag else pushed_digest(repository, tag)
        outcome = "already pushed" if digest else "built"
        digest = digest or build(image, f"{repository}:{tag}", base, platforms(image, arguments.platform))
        images[image.name] = {"repository": repository, "digest": digest}
        sys.stdout.write(f"{repository}:{tag} {digest} ({outcome})\n")
    arguments.out.write_text(json.dumps(images, indent=2) + "\n")
    return 0


def platforms(image: Image, wanted: str) -> str:
    """Return the requested platforms that the image can be built for."""
    possible = [name for name in wanted.split(",") if name == "linux/amd64" or image.name not in X86_ONLY]
    if not possible:
        sys.exit(f"the image {image.name} can be built only for linux/amd64, not for {wanted}")
    return ",".join(possible)


def base_by_digest() -> str:
    """Return the base image by its current digest, so that a new base image rebuilds every image."""
    template = "{{.Manifest.Digest}}"
    digest = output(["docker", "buildx", "imagetools", "inspect", BASE_IMAGE, "--format", template])
    return f"{BASE_IMAGE.rpartition(':')[0]}@{digest}"


def pushed_digest(repository: str, tag: str) -> str | None:
    """Return the digest of the tag in ECR, or None if ECR has no such tag."""
    name = repository.partition("/")[2]
    answer = json.loads(
        output(["aws", "ecr", "batch-get-image", "--output", "json", "--repository-name", name, "--image-ids",
                f"imageTag={tag}"])
    )  # fmt: skip
    if answer["images"]:
        return str(answer["images"][0]["imageId"]["imageDigest"])
    reasons = {failure["failureCode"] for failure in answer["failures"]}
    if reasons != {MISSING}:
        sys.exit(f"ECR did not report whether {name}:{tag} exists: {answer['failures']}")
    return None


def build(image: Image, reference: str, base: str, platform: str) -> str:
    """Build and push one image with provenance and a bill of materials, and return its digest."""
    with TemporaryDirectory() as scratch:
        metadata = Path(scratch) / "metadata.json"
        command = ["docker", "buildx", "build", "--push", "--provenance=mode=max", "--sbom=true",
                   "--platform", platform, "--file", image.dockerfile, "--tag", reference,
                   "--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"TORCH_INDEX_URL={TORCH_INDEX}",
                   "--cache-from", f"type=gha,scope={image.name}",
                   "--cache-to", f"type=gha,scope={image.name},mode=max",
                   "--metadata-file", str(metadata), "."]  # fmt: skip
        if subprocess.run(command).returncode != 0:
            sys.exit(f"{reference} was not built")
        return str(json.loads(metadata.read_text())["containerimage.digest"])


def output(command: list[str]) -> str:
    """Run a program and return its output; exit with its error message if it fails."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"`{' '.join(command[:4])} …`: {result.stderr.strip()}")
    return result.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", required=True, help="the registry and path, without the image's own name")
    parser.add_argument("--tag", help="the tag of all images, such as a release's version")
    parser.add_argument("--platform", default="linux/amd64", help="comma-separated")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
