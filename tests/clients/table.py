"""The table of CLIENTS.md."""

import collections

import session

# Whether everything was done, in words, and the logins that it took.
Cell = collections.namedtuple("Cell", "is_whole words logins")

HEAD = [
    "| client | TLS | `required`, TLS 1.2 | `required`, TLS 1.3 | `preferred`, TLS 1.2 | `preferred`, TLS 1.3 | it needs |",
    "| --- | --- | --- | --- | --- | --- | --- |",
]
TLS = [("required", "1.2"), ("required", "1.3"), ("preferred", "1.2"), ("preferred", "1.3")]


def words(client, done, groups):
    """What was done, in words that stay the same from run to run."""
    uploads, failed, can = {"put", "reput"}, set(), client.can
    for group in groups:
        verb = group[0].split(":")[0]
        if verb in can and not done.issuperset(group):
            failed.add(verb)
    if not done:
        return "no"
    return "all but uploads" if failed <= uploads else "in part"


def needed(client, cells):
    """The directives that let a client do everything."""
    works = [all(cell.is_whole for _, cell in cells[mode]) if mode in cells else False for mode in TLS]
    required = [mode for mode, one in zip(["1.2", "1.3"], works[:2]) if one]
    preferred = [mode for mode, one in zip(["1.2", "1.3"], works[2:]) if one]
    speaks = [client.pinned] if client.pinned else ["1.2", "1.3"]
    found = [f"`{client.extra}`"] if client.extra else []
    if required:
        able = required
    elif preferred:
        able = preferred
        found.append('`data-session = "preferred"`')
    else:
        return "see below"
    if able != speaks:
        found.append({"1.2": '`tls-max = "1.2"`', "1.3": '`tls-min = "1.3"`'}[able[0]])
    return ", ".join(found) or "nothing"


def text(cells):
    """One cell of the table, of one or two kinds of TLS."""
    if not cells:
        return "-"
    said = {cell.words for _, cell in cells}
    if len(said) == 1:
        return said.pop()
    return "; ".join(f"{kind}: {cell.words}" for kind, cell in cells)


def row(client, cells):
    if client.kinds == ("plain",):
        outcome = text(cells["plain", ""])
        return f"| {client.name()} | none | no | no | no | no | `plain-from`: {outcome} |"
    shown = " | ".join(text(cells.get(mode)) for mode in TLS)
    return f"| {client.name()} | {', '.join(client.kinds)} | {shown} | {needed(client, cells)} |"


def client_of(line):
    return line.split("|")[1].strip()


def parts(path):
    """The page before the rows, the rows, and the page after them."""
    with open(path) as file:
        page = file.read()
    before, rest = page.split("\n".join(HEAD) + "\n")
    old, after = rest.split("\n\n", 1)
    return before, old.splitlines(), after


def worse(path, rows):
    """Rows of the page that say yes where that is no longer so."""
    _, old, _ = parts(path)
    now = {client_of(line): line.split("|") for line in rows}
    return [line for line in old
            if any(was.strip() == "yes" != one.strip()
                   for was, one in zip(line.split("|"), now.get(client_of(line), [])))]


def write(path, rows):
    """Puts rows in the place of those of the same client, or after the last."""
    before, lines, after = parts(path)
    for line in rows:
        places = [number for number, one in enumerate(lines) if client_of(one) == client_of(line)]
        if places:
            lines[places[0]] = line
        else:
            lines.append(line)
    with open(path, "w") as file:
        file.write(before + "\n".join([*HEAD, *lines]) + "\n\n" + after)
