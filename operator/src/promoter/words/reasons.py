"""What the reasons in a ModelPromotion mean, and what to do: docs/promotion.md in the terminal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """What a reason means in one sentence, and what to do about it."""

    what: str
    advice: str


# Why a version was rolled back, in the order of docs/promotion.md.
ROLLBACKS = {
    "AnalysisFailed": Meaning(
        "its answers were measurably worse than the limits allow, beyond chance, as often as failureLimit permits",
        "compare it with the champion (kubectl promotion diff), mend it, and register a new version; if the limit is "
        "wrong, change it in the spec and retry",
    ),
    "AnalysisError": Meaning(
        "the canary could not be measured errorLimit times in a row, so nobody knows whether it was good",
        "look at /metrics of the stable pods and at Prometheus, and retry once they answer",
    ),
    "CanaryFailed": Meaning(
        "a canary pod failed in a way that waiting does not mend: a crash, memory, files that do not match their "
        "digests, or an incompatible contract",
        "read the canary's log, or the feature and code in the message, and register a version without the fault",
    ),
    "CanaryLost": Meaning(
        "all canary pods disappeared, repeatedly",
        "look for node pressure and evictions (kubectl get events), and retry once there is room",
    ),
    "ProgressDeadlineExceeded": Meaning(
        "the canary was not ready, or its files were not copied, within progressDeadlineSeconds",
        "the message says what it waited for: image, quota, scheduling or download; retry once that is mended",
    ),
    "RouteNotSeen": Meaning(
        "a stable pod did not apply the weight within progressDeadlineSeconds",
        "read that pod's log and the route's ConfigMap, and retry",
    ),
    "PromotionDeadlineExceeded": Meaning(
        "the rolling update of the stable pods did not finish within progressDeadlineSeconds and was reverted",
        "look at kubectl rollout status of the Deployment: quota, scheduling or a crash; then retry",
    ),
    "Aborted": Meaning(
        "somebody aborted it",
        "the version was not found to be bad: retry it, or move the pointer to another version",
    ),
}

# Why a rollout ended without a judgment.
STOPS = {
    "PointerMovedBack": Meaning(
        "the pointer no longer named it", "move the pointer to it again for another rollout; it did not fail"
    ),
    "Superseded": Meaning(
        "the pointer moved on to another version during its rollout",
        "nothing: the other version is rolled out instead; this one did not fail",
    ),
    "ApprovalsChanged": Meaning(
        "the spec was changed to ask for other approvals than when the rollout began",
        "nothing: the rollout starts over and asks for them; see the spec's managedFields for what changed it",
    ),
}

# What else may be wrong, by the reason of the condition Degraded or Drifted.
PROBLEMS = {
    "InvalidSpec": Meaning(
        "the spec breaks a rule, so the operator does nothing", "mend the field that the message names; see "
        "kubectl promotion lint"),
    "ApprovalsDisabled": Meaning(
        "a pause asks for approvals, and the operator cannot check who approves",
        "set approvals.enabled in the values of the operator's chart, or remove the approvals"),
    "TargetTaken": Meaning(
        "an older ModelPromotion has the same Deployment as its target", "delete one of the two"),
    "TargetNotFound": Meaning(
        "the target Deployment does not exist", "create it, or a ModelPromotion for another target"),
    "TargetForbidden": Meaning(
        "the operator has no permission for the target", "list the target in the values of the operator's chart"),
    "Blocked": Meaning(
        "an object of the canary's name belongs to something else, or the Deployment cannot have a canary",
        "rename or delete the object that the message names"),
    "CapacityLow": Meaning(
        "fewer stable pods than wanted are available", "the message says what the first pod that is not ready lacks"),
    "PodsCannotStart": Meaning(
        "stable pods cannot be created, fit on no node, or crash", "kubectl describe the Deployment and its pods"),
    "RegistryUnreachable": Meaning(
        "the registry does not answer; what serves keeps serving, but no new version is noticed",
        "look at MLflow and its database"),
    "StableVersionMissing": Meaning(
        "the registry no longer has the stable version",
        "register its files again as a new version, and move the pointer to it"),
    "AutoscalersForbidden": Meaning(
        "the operator may not list autoscalers, so a canary gets no requests", "upgrade the operator's chart"),
    "ArtifactsNotKept": Meaning(
        "a version's files cannot be kept in the cluster, so its pods need the registry to start",
        "the condition ArtifactsKept has the reason"),
    "Refused": Meaning(
        "the API server refused something that the operator has to do",
        "look at the operator's Role, admission webhooks and quotas"),
    "Retrying": Meaning(
        "the API server or an admission webhook fails; the operator keeps trying", "look at the API server"),
    "DriftFound": Meaning(
        "applicants or scores are no longer those that the stable version learned from",
        "read the drift report (creditrisk drift show); it says what changed, and whether to train again"),
}  # fmt: skip
