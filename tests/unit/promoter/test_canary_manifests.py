"""The canary's manifests: which pod templates count as the same."""

from __future__ import annotations

from promoter.adapters.canary_manifests import template_digest


def test_the_version_alone_does_not_make_another_template() -> None:
    def digest(**annotations: str) -> str:
        return template_digest({"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {}}}})

    assert digest(**{"creditrisk.io/model-version": "1"}) == digest(**{"creditrisk.io/model-version": "2"})
    assert digest(image="1") != digest(image="2")
