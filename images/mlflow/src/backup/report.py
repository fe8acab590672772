"""A restore's report for people."""

from backup.verify import Report


def text(report: Report) -> str:
    """Return the report as lines of text."""
    artifacts = report.artifacts
    lines = [
        f"Restored backup {report.backup}, taken at {report.taken_at}",
        f"  database   {report.tables} tables, {report.rows} rows: all match the backup's rows and checksums",
        *(f"             {count:>8} {what}" for what, count in report.counts.items()),
        f"  artifacts  {artifacts.restored} restored ({artifacts.restored_bytes / 1e6:.1f} MB), "
        f"{artifacts.unchanged} unchanged, {artifacts.not_in_backup} newer than the backup left in place",
    ]
    if log := report.decision_log:
        lines.append(f"  decisions  {log.tables} tables, {log.rows} rows of {log.taken_at}: all match")
    if report.schema_upgraded:
        lines.append("  schema     upgraded to this MLflow's")
    good = [version for version in report.versions if not version.problems]
    files = sum(version.files for version in good)
    lines.append(f"  versions   {len(good)} of {len(report.versions)} match their digests ({files} files)")
    for version in report.versions:
        known = " (already so when the backup was taken)" if version.known_before else ""
        lines += [f"    version {version.version} of {version.name}: {problem}{known}" for problem in version.problems]
    lines.append("Restore verified" if report.ok else "Restore NOT verified: see the versions above")
    return "\n".join(lines) + "\n"
