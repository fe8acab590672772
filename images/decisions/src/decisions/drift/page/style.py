"""The report's style sheet."""

STYLE = """
:root { color-scheme: light; --line: #dfe3e8; --muted: #5c6570; --ink: #1b232c; --good: #00795c; --bad: #c1440e;
        --unclear: #8a6a00; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 34px 0 10px; } h3 { font-size: 15px; margin: 0; }
p { margin: 6px 0; } .muted, small { color: var(--muted); } nav a { margin-right: 14px; }
a { color: #0b5c92; }
.lead { font-size: 18px; margin: 14px 0 4px; max-width: 60em; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 12px 0;
        overflow-x: auto; }
.finding { border-left: 5px solid var(--bad); } .finding.notice { border-left-color: #7d8791; }
.finding dl { display: grid; grid-template-columns: 9em 1fr; gap: 2px 12px; margin: 8px 0 0; }
.finding dt { color: var(--muted); } .finding dd { margin: 0; }
.pill { display: inline-block; border-radius: 10px; padding: 0 9px; font-size: 13px; font-weight: 600; color: #fff;
        background: var(--good); white-space: nowrap; }
.pill.drifted, .pill.red { background: var(--bad); } .pill.unclear { background: var(--unclear); }
.pill.yellow { background: var(--unclear); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: 13px; vertical-align: bottom; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); } tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; }
.grid-2 { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 12px; align-items: start; }
.grid-2 .card { margin: 0; } .head { display: flex; justify-content: space-between; gap: 10px; align-items: baseline; }
.key::before { content: ""; display: inline-block; width: 11px; height: 11px; margin: 0 5px 0 12px;
               background: var(--c); }
svg { max-width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: #3d4650; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .line { fill: none; stroke-width: 2; }
svg .grid { stroke: #e6e9ed; } svg .limit { stroke: #1b232c; stroke-dasharray: 4 3; }
svg .bounds { stroke: #1b232c; stroke-width: 1.5; }
@media print { body { background: #fff; } .card { break-inside: avoid; } nav { display: none; } }
"""
