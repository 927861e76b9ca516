"""The table of BENCHMARKS.md."""

import statistics
import sys

BEGIN = "<!-- Written by make bench from here -->"
END = "<!-- to here -->"


def most(number):
    return f"at most {number}", lambda ours, limit, peers: ours <= number


def times_limit(factor):
    return f"at most {factor} x the limit", lambda ours, limit, peers: ours <= factor * limit if limit else None


def ahead(name, factor=1.0):
    text = f"ahead of {name}" if factor == 1 else f"{factor:g} x ahead of {name}"

    def reached(ours, limit, peers):
        others = [value for key, value in peers.items() if name in key]
        return ours * factor <= min(others) if others else None

    return text, reached


def faster(name, factor):
    def reached(ours, limit, peers):
        others = [value for key, value in peers.items() if name in key]
        return ours >= factor * max(others) if others else None

    return f"{factor:g} x {name}", reached


# Name, what it is, whether more is better, and the target of our own.
ROWS = [
    ("retr1", "RETR, 1 stream, CPU s/GiB", False, times_limit(1.15)),
    ("retr4", "RETR, 4 streams, CPU s/GiB", False, times_limit(1.15)),
    ("stor1", "STOR to tmpfs, `durable = false`, CPU s/GiB", False, times_limit(1.1)),
    ("greet", "login up to the password, full handshake, CPU ms", False, ahead("unftp")),
    ("login", "login with `$6$`, 1000 rounds (unftp: clear text), CPU ms", False, ahead("vsftpd", 5)),
    ("small_retr", "4 KiB files in one session, RETR, CPU ms", False, most(0.35)),
    ("small_stor", "the same, STOR, CPU ms", False, most(0.35)),
    ("small_retr_rate", "the same, RETR, files/s", True, faster("proftpd", 1.5)),
    ("small_stor_rate", "the same, STOR, files/s", True, faster("proftpd", 1.5)),
    ("list", "LIST of 100,000 entries, CPU ms", False, most(130)),
    ("list_growth", "the same, memory more than before, KiB", False, most(256)),
    ("mlsd", "MLSD of 100,000 entries, CPU ms", False, most(130)),
    ("mlsd_growth", "the same, memory more than before, KiB", False, most(256)),
    ("session", "memory per idle session of 200, KiB", False, most(22)),
    ("running", "memory per running RETR of 50, KiB", False, most(100)),
    ("idle", "idle PSS, KiB", False, most(1229)),
    ("disk", "on disk with every library but libc, KiB", False, most(1638)),
]


def shown(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(values, more):
    if not values:
        return "-"
    median, best = statistics.median(values), (max if more else min)(values)
    text = shown(median)
    return text if shown(best) == text else f"{text} ({shown(best)})"


def render(about, results):
    """The text between the two marks."""
    peers = [name for name in results if name not in ("ftpsd", "limit")]
    head = ["work", "ftpsd", "limit", *peers, "to limit", "to best peer", "target", "reached"]
    lines = [
        f"{about['date']}, {about['rounds']} rounds, interleaved: the median, in brackets the best. {about['machine']};",
        f"{about['kernel']}; {about['rustc']}. CPU time is that of the server's processes, from",
        f"{about['cpu']}. Other programs had {about['others']:.2f} CPUs while it ran (median).",
        f"Made by `{about['command']}`.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 3) + " --- | --- |",
    ]
    for key, label, more, (target, reached) in ROWS:
        ours = results.get("ftpsd", {}).get(key)
        if not ours:
            continue
        median = statistics.median(ours)
        limit = results.get("limit", {}).get(key)
        limit = statistics.median(limit) if limit else None
        others = {name: statistics.median(results[name][key]) for name in peers if results[name].get(key)}
        best = (max if more else min)(others.values()) if others else None
        ratio = lambda other: f"{median / other:.2f}" if other else "-"
        row = [label, cell(ours, more), cell(results.get("limit", {}).get(key), more)]
        row += [cell(results[name].get(key), more) for name in peers]
        verdict = {None: "not compared", True: "yes", False: "**no**"}[reached(median, limit, others)]
        row += [ratio(limit), ratio(best), target, verdict]
        lines.append("| " + " | ".join(row) + " |")
    built = "the static musl build" if about["static"] else "the release build, as no static one was there"
    lines += ["", f"Memory and size of ftpsd are those of {built}. In the session rows the memory of its threads counts too."]
    if about["skipped"]:
        lines += ["", f"Not compared with peers: {about['skipped']}."]
    lines += ["", "| server | version | negotiated |", "| --- | --- | --- |"]
    for name in ["ftpsd", "limit", *peers]:
        ciphers = sorted(set(about["ciphers"].get(name, {}).values()))
        lines.append(f"| {name} | {about['versions'].get(name, 'tests/bench/raw.rs')} | {'; '.join(ciphers) or '-'} |")
    return "\n".join(lines)


def write(path, text, marks=(BEGIN, END)):
    """Puts the text between the marks of a file."""
    begin_mark, end_mark = marks
    with open(path, encoding="utf-8") as file:
        page = file.read()
    before, begin, rest = page.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end:
        sys.exit(f"{path} has no place for the table")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin_mark}\n\n{text}\n\n{end_mark}{after}")
