"""A card with vfat as a user's root."""

import ftplib
import os

from clients import Ftps, digest

REFUSED = ["a:b", "a?b", "a*b", 'a"b', "a<b", "a|b", "a\\b"]


def vfat(board, authority, report):
    """Upload, replace, resume, rename, times, names that vfat does not take."""
    data = os.urandom(300_001)
    with Ftps(board.explicit, authority, user="card") as session:
        def inside(name):
            return board.run(f"sha256sum '/card/{name}'").split()[0]

        for content in (data, data[:70_000], data):
            session.put("Report 1.csv", content)
            assert inside("Report 1.csv") == digest(content)
            assert session.fetch("Report 1.csv") == content
        # One name, whatever its case.
        session.put("REPORT 1.CSV", b"other")
        assert session.fetch("Report 1.csv") == b"other"
        assert len(session.nlst()) == 1, session.nlst()

        # vfat has no mode to seal what broke off with: whole pieces of 8 MiB count.
        data = os.urandom(10 << 20)
        reply = session.try_put("resumed", data[: 9 << 20], whole=False)
        assert reply.startswith("426"), reply
        assert "resumed" not in session.nlst()
        session.voidcmd("TYPE I")
        rest = session.size("resumed")
        assert rest == (8 << 20) - 1, rest
        session.put("resumed", data[rest:], rest=rest)
        assert inside("resumed") == digest(data)
        session.rename("resumed", "renamed")
        assert session.fetch("renamed") == data

        session.voidcmd("MFMT 20240229121314 renamed")
        stamp = session.sendcmd("MDTM renamed").split()[1]
        # vfat counts in two seconds.
        assert stamp.startswith("2024022912131"), stamp

        for name in REFUSED:
            reply = session.try_put(name, b"x")
            assert reply.startswith("553"), f"STOR {name}: {reply}"
            try:
                reply = session.mkd(name)
            except ftplib.Error as refused:
                reply = str(refused)
            assert reply.startswith(("553", "550")), f"MKD {name}: {reply}"
        left = board.run("ls -A /card")
        assert sorted(left.splitlines()) == ["REPORT 1.CSV", "renamed"] or \
            sorted(left.splitlines()) == ["Report 1.csv", "renamed"], left
    report("vfat", f"upload, replace, resume, rename, times; {len(REFUSED)} names refused with 553")
