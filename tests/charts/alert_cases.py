"""For each alert, series on which it fires and series on which it does not, in promtool's notation."""

from __future__ import annotations

from dataclasses import dataclass, field

# A minute between samples; four hours of them.
_LONG = "x240"
# Helm's: a day and a half of evaluations takes longer than a test should.
SHORTER = (
    "--set=alerts.BackupOld.threshold=3600",
    "--set=alerts.TrainingStuck.threshold=3600",
    "--set=alerts.DriftReportOld.threshold=3600",
)


@dataclass(frozen=True)
class Case:
    """Series by their selector.

    Attributes:
        firing: On these the alert fires.
        quiet: On these it does not.
        labels: Of the alert that fires, besides `alertname`, `alertstate`, `namespace` and `severity`.
        after: When it is asked for, as promtool writes times.
    """

    firing: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    after: str = "1h"


NS = 'namespace="ns"'
LOANS = f'{NS}, name="loans"'
_LOANS = {"name": "loans"}


def _condition(kind: str, status: str, reason: str) -> str:
    return f'promoter_condition{{{LOANS}, type="{kind}", status="{status}", reason="{reason}"}}'


def _runs(status: str) -> str:
    return f'promoter_training_run_timestamp_seconds{{{NS}, model="loans", status="{status}"}}'


def _weights(desired: int, verified: int) -> dict[str, str]:
    return {
        f"promoter_weight_percent{{{LOANS}}}": f"{desired}{_LONG}",
        f"promoter_verified_weight_percent{{{LOANS}}}": f"{verified}{_LONG}",
    }


def _answers(good: str, bad: str, refused: str) -> dict[str, str]:
    return {
        f'scorer_requests_total{{{NS}, status="200"}}': good,
        f'scorer_requests_total{{{NS}, status="500"}}': bad,
        f'scorer_refused_total{{{NS}, reason="overload"}}': refused,
    }


def _degraded(reason: str) -> dict[str, str]:
    return {**_LOANS, "type": "Degraded", "status": "True", "reason": reason}


_AS_EXPECTED = {_condition("Degraded", "False", "AsExpected"): f"1{_LONG}"}
_SLOW, _ALL = f'scorer_request_seconds_bucket{{{NS}, le="0.1"}}', f"scorer_request_seconds_count{{{NS}}}"
CASES: dict[str, list[Case]] = {
    "NoReadyScorer": [
        Case({f'scorer_ready{{{NS}, pod="a"}}': f"0{_LONG}"}, {f'scorer_ready{{{NS}, pod="a"}}': f"1{_LONG}"}),
        # Nothing answers, in this namespace.
        Case(
            {'scorer_ready{namespace="other", pod="a"}': f"1{_LONG}"},
            {f'scorer_ready{{{NS}, pod="{pod}"}}': f"{ready}{_LONG}" for pod, ready in (("a", 0), ("b", 1))},
        ),
    ],
    "ScorerCapacityLow": [
        Case({_condition("Degraded", "True", "CapacityLow"): f"1{_LONG}"}, _AS_EXPECTED, _degraded("CapacityLow"))
    ],
    "RolloutFailed": [
        Case(
            {f'promoter_phase{{{LOANS}, phase="Failed"}}': f"1{_LONG}"},
            {f'promoter_phase{{{LOANS}, phase="Failed"}}': f"0{_LONG}"},
            {**_LOANS, "phase": "Failed"},
        )
    ],
    "RolloutStuck": [
        Case(
            {f'promoter_phase{{{LOANS}, phase="Promoting"}}': f"1{_LONG}"},
            # Twenty minutes are not too long.
            {f'promoter_phase{{{LOANS}, phase="Promoting"}}': "0x40 1x20 0x100"},
            {**_LOANS, "phase": "Promoting"},
        ),
        Case(_weights(25, 5), _weights(25, 25), _LOANS),
    ],
    "ModelPromotionDegraded": [
        Case(
            {_condition("Degraded", "True", "StableVersionMissing"): f"1{_LONG}"},
            {
                _condition("Degraded", "True", "AnalysisFailed"): f"1{_LONG}",
                f'promoter_phase{{{LOANS}, phase="Failed"}}': f"1{_LONG}",
            },
            _degraded("StableVersionMissing"),
        ),
        Case({_condition("Degraded", "True", "Refused"): f"1{_LONG}"}, _AS_EXPECTED, _degraded("Refused")),
    ],
    "RegistryUnreachable": [
        Case(
            {_condition("RegistryReachable", "False", "Unreachable"): f"1{_LONG}"},
            {_condition("RegistryReachable", "True", "Reachable"): f"1{_LONG}"},
            {**_LOANS, "type": "RegistryReachable", "status": "False", "reason": "Unreachable"},
        )
    ],
    "OperatorDown": [
        Case(
            {f'up{{{NS}, job="operator", pod="a"}}': "1x10 _x100"},
            {f'up{{{NS}, job="operator", pod="a"}}': f"1{_LONG}", f'up{{{NS}, job="operator", pod="b"}}': f"0{_LONG}"},
        ),
        # A release without an operator.
        Case({f'up{{{NS}, job="operator", pod="a"}}': "1x10 0x100"}, {f'up{{{NS}, job="api", pod="a"}}': f"1{_LONG}"}),
    ],
    "NotificationsNotDelivered": [
        Case(
            {f'promoter_notifications_pending{{{NS}, receiver="chat"}}': f"2{_LONG}"},
            # Two that waited for ten minutes, and what was delivered.
            {
                f'promoter_notifications_pending{{{NS}, receiver="chat"}}': "0x40 2x10 0x100",
                f'promoter_notifications_total{{{NS}, receiver="chat", outcome="delivered"}}': "0+1x200",
            },
            {"receiver": "chat"},
        ),
        Case(
            {f'promoter_notifications_total{{{NS}, receiver="mail", outcome="refused"}}': "0x30 1x100"},
            {f'promoter_notifications_total{{{NS}, receiver="mail", outcome="refused"}}': f"4{_LONG}"},
            {"receiver": "mail"},
        ),
    ],
    "DecisionRecordsLost": [
        Case(
            {f'scorer_decisions_not_logged_total{{{NS}, pod="a", cause="disk"}}': "0x55 0+1x20"},
            {f'scorer_decisions_not_logged_total{{{NS}, pod="a", cause="disk"}}': f"7{_LONG}"},
            {"pod": "a", "cause": "disk"},
        )
    ],
    "DecisionSegmentsFilling": [
        Case(
            {
                f'scorer_decision_log_segment_bytes{{{NS}, pod="a"}}': f"600{_LONG}",
                f'scorer_decision_log_segment_limit_bytes{{{NS}, pod="a"}}': f"1000{_LONG}",
            },
            {
                f'scorer_decision_log_segment_bytes{{{NS}, pod="a"}}': f"400{_LONG}",
                f'scorer_decision_log_segment_limit_bytes{{{NS}, pod="a"}}': f"1000{_LONG}",
            },
            {"pod": "a"},
        )
    ],
    "DecisionsNotShipped": [
        Case(
            {f'decisions_shipper_oldest_waiting_seconds{{{NS}, pod="a"}}': "0+60x100"},
            {f'decisions_shipper_oldest_waiting_seconds{{{NS}, pod="a"}}': f"3{_LONG}"},
            {"pod": "a"},
        )
    ],
    "DecisionSegmentsDamaged": [
        Case(
            {f'decisions_shipper_damaged_total{{{NS}, pod="a", part="group"}}': "0x50 1x100"},
            {f'decisions_shipper_damaged_total{{{NS}, pod="a", part="group"}}': f"0{_LONG}"},
            {"pod": "a", "part": "group"},
        )
    ],
    "BackupOld": [
        # Time begins at 0: the newest backup is as old as the question.
        Case(
            {f"backup_last_complete_timestamp_seconds{{{NS}}}": f"0{_LONG}"},
            {f"backup_last_complete_timestamp_seconds{{{NS}}}": f"5400{_LONG}"},
            after="2h",
        ),
        Case(
            {f'kube_cronjob_status_last_successful_time{{{NS}, cronjob="backup"}}': f"0{_LONG}"},
            {f'kube_cronjob_status_last_successful_time{{{NS}, cronjob="decisions-verify"}}': f"0{_LONG}"},
            {"cronjob": "backup"},
            after="2h",
        ),
    ],
    "BackupStoreUnreachable": [
        Case({f"backup_store_reachable{{{NS}}}": f"0{_LONG}"}, {f"backup_store_reachable{{{NS}}}": f"1{_LONG}"})
    ],
    "TrainingFailed": [
        Case(
            {_runs("refused"): f"200{_LONG}", _runs("failed"): f"0{_LONG}", _runs("finished"): f"100{_LONG}"},
            {_runs("refused"): f"200{_LONG}", _runs("failed"): f"50{_LONG}", _runs("finished"): f"300{_LONG}"},
            {"model": "loans", "status": "refused"},
        ),
        Case(
            {f'kube_job_failed{{{NS}, job_name="training-1", condition="true"}}': f"1{_LONG}"},
            {f'kube_job_failed{{{NS}, job_name="backup-1", condition="true"}}': f"1{_LONG}"},
            {"job_name": "training-1", "condition": "true"},
        ),
    ],
    "RetrainingFailed": [
        Case(
            {_condition("Retraining", "False", "BackingOff"): f"1{_LONG}"},
            {_condition("Retraining", "False", "CoolingDown"): f"1{_LONG}"},
            {**_LOANS, "type": "Retraining", "status": "False", "reason": "BackingOff"},
        )
    ],
    "TrainingStuck": [
        Case(
            {_runs("running"): f"1{_LONG}"}, {_runs("running"): f"0{_LONG}"},
            {"model": "loans", "status": "running"}, after="2h",
        )
    ],
    "Drifted": [
        Case(
            {f'decisions_drift_drifted{{{NS}, model="loans", version="3"}}': f"1{_LONG}"},
            {f'decisions_drift_drifted{{{NS}, model="loans", version="3"}}': f"0{_LONG}"},
            {"model": "loans", "version": "3"},
        )
    ],
    "DriftReportOld": [
        Case(
            {f'decisions_drift_report_timestamp_seconds{{{NS}, model="loans"}}': f"1{_LONG}"},
            {f'decisions_drift_report_timestamp_seconds{{{NS}, model="loans"}}': f"5400{_LONG}"},
            {"model": "loans"},
            after="2h",
        )
    ],
    "CertificateExpiresSoon": [
        Case(
            {f'probe_ssl_earliest_cert_expiry{{{NS}, instance="https://a"}}': f"1000000{_LONG}"},
            {f'probe_ssl_earliest_cert_expiry{{{NS}, instance="https://a"}}': f"9000000{_LONG}"},
            {"instance": "https://a"}, after="3h",
        ),
        Case(
            {f'certmanager_certificate_expiration_timestamp_seconds{{{NS}, name="a"}}': f"1000000{_LONG}"},
            {f'certmanager_certificate_expiration_timestamp_seconds{{{NS}, name="a"}}': f"9000000{_LONG}"},
            {"name": "a"}, after="3h",
        ),
    ],
    "EndpointUnreachable": [
        Case(
            {f'probe_success{{{NS}, instance="https://a"}}': f"0{_LONG}"},
            {f'probe_success{{{NS}, instance="https://a"}}': f"1{_LONG}"},
            {"instance": "https://a"},
        )
    ],
    "VolumeFilling": [
        Case(
            {
                f'kubelet_volume_stats_available_bytes{{{NS}, persistentvolumeclaim="data"}}': f"5{_LONG}",
                f'kubelet_volume_stats_capacity_bytes{{{NS}, persistentvolumeclaim="data"}}': f"100{_LONG}",
            },
            {
                f'kubelet_volume_stats_available_bytes{{{NS}, persistentvolumeclaim="data"}}': f"50{_LONG}",
                f'kubelet_volume_stats_capacity_bytes{{{NS}, persistentvolumeclaim="data"}}': f"100{_LONG}",
            },
            {"persistentvolumeclaim": "data"},
        )
    ],
    "SloBurnRate": [
        # Two in a hundred fail, where one in a thousand may: twenty times too fast.
        Case(
            _answers("0+98x200", "0+2x200", "0x200"), _answers("0+10000x200", "0+2x200", "0x200"),
            {"slo": "availability", "window": "1h"},
        ),
        # Refused for lack of room, without an error in sight; and nobody asks for anything.
        Case(
            _answers("0+98x200", "0x200", "0+2x200"), _answers("5x200", "3x200", "3x200"),
            {"slo": "availability", "window": "1h"},
        ),
        # A fifth is slow, where one in a hundred may be. An hour ago does not count any more.
        Case(
            {_SLOW: "0+80x200", _ALL: "0+100x200"},
            {_SLOW: "0+80x30 2480+100x200", _ALL: "0+100x300"},
            {"slo": "latency", "window": "1h"},
        ),
    ],
}  # fmt: skip
