"""Honest clients for the soak: each function is one round of one, and gives how many files it moved."""

import contextlib
import ftplib
import io
import os
import random
import ssl
import subprocess
import tempfile

import honest
from server import PASSWORD, USER


def bytes_of(most):
    return os.urandom(random.randrange(most))


def stored(ftp, name, data, **more):
    ftp.storbinary(f"STOR {name}", io.BytesIO(data), **more)


def retrieved(ftp, name, rest=None):
    kept = io.BytesIO()
    ftp.retrbinary(f"RETR {name}", kept.write, rest=rest)
    return kept.getvalue()


def python(server, source):
    """ftplib: up, down, listings, a resumed upload and download, an aborted one, renames."""
    name, data = f"python-{os.getpid()}", bytes_of(3_000_000) + b"end"
    version = random.choice([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    with contextlib.closing(honest.log_in(server, source, version=version)) as ftp:
        stored(ftp, name, data)
        assert retrieved(ftp, name) == data
        half = len(data) // 2
        assert retrieved(ftp, name, rest=half) == data[half:]
        assert name in ftp.nlst() and dict(ftp.mlsd())[name]["size"] == str(len(data))
        # Cut, and gone on with.
        ftp.voidcmd("TYPE I")
        cut = ftp.transfercmd(f"STOR {name}-cut")
        cut.sendall(data[:half])
        cut.close()
        with contextlib.suppress(ftplib.error_temp):
            ftp.voidresp()
        arrived = 0
        with contextlib.suppress(ftplib.error_perm):
            # Nothing at all may have come.
            arrived = ftp.size(f"{name}-cut")
        stored(ftp, f"{name}-cut", data[arrived:], rest=arrived or None)
        back = retrieved(ftp, f"{name}-cut")
        ftp.delete(f"{name}-cut")
        assert back == data, f"another file came back, the first half from before byte {arrived} of {len(data)}"
        # Aborted.
        conn = ftp.transfercmd(f"RETR {name}")
        conn.recv(1000)
        ftp.putcmd("ABOR")
        conn.close()
        ftp.getmultiline(), ftp.getmultiline()
        for turn in range(5):
            ftp.rename(name, f"{name}-{turn}")
            name = f"{name}-{turn}"
        ftp.mkd(f"{name}-dir")
        ftp.rename(name, f"{name}-dir/in")
        assert ftp.nlst(f"{name}-dir")
        ftp.delete(f"{name}-dir/in")
        ftp.rmd(f"{name}-dir")
        ftp.quit()
    return 5


def run(command, text=None):
    """A program that has to succeed, or to be turned away."""
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          check=False, text=True)
    assert done.returncode == 0, f"{command[0]}: {done.returncode} {done.stdout}"


def curl(server, source):
    """curl: a login for each file."""
    with tempfile.TemporaryDirectory(dir=server.directory) as place:
        here, back, name = f"{place}/up", f"{place}/down", f"curl-{os.getpid()}"
        with open(here, "wb") as file:
            file.write(bytes_of(2_000_000) + b"end")
        # With TLS 1.3 it spends a ticket for each upload; CLIENTS.md has that.
        common = ["curl", "-q", "-sS", "-v", "--interface", source, "--user", f"{USER}:{PASSWORD}", "-k",
                  "--ssl-reqd", "--tls-max", "1.2"]
        url = f"ftp://127.0.0.1:{server.explicit}/{name}"
        run([*common, "-T", here, url])
        run([*common, "-o", back, url])
        with open(here, "rb") as one, open(back, "rb") as other:
            assert one.read() == other.read(), "another file came back"
        run([*common, "-o", back, "-Q", f"-DELE {name}", f"ftp://127.0.0.1:{server.explicit}/"])
    return 2


def lftp(server, source):
    """lftp: several files in one session."""
    with tempfile.TemporaryDirectory(dir=server.directory) as place:
        name = f"lftp-{os.getpid()}"
        os.mkdir(f"{place}/{name}")
        for number in range(6):
            with open(f"{place}/{name}/{number}", "wb") as file:
                file.write(bytes_of(300_000))
        script = f"""set ssl:verify-certificate no
set ftp:ssl-force true
set ftp:ssl-protect-data true
set net:socket-bind-ipv4 {source}
set net:max-retries 1
set net:timeout 30
set cmd:fail-exit yes
open -u {USER},"{PASSWORD}" ftp://127.0.0.1:{server.explicit}
mirror -R {place}/{name} {name}
cls {name}
mirror {name} {place}/back
rm -r {name}
quit
"""
        run(["lftp", "--norc"], script)
        for number in range(6):
            with open(f"{place}/{name}/{number}", "rb") as one, open(f"{place}/back/{number}", "rb") as other:
                assert one.read() == other.read(), "another file came back"
    return 12


def raw(server, source):
    """Commands in advance, listings, an endpoint that is not used, and the end without QUIT."""
    with honest.secured(server, source, random.choice([server.explicit, server.implicit]), logged_in=True) as sock:
        sock.sendall(b"PWD\r\nSYST\r\nNOOP\r\nSIZE nothing\r\nPBSZ 0\r\nPROT P\r\n")
        codes = [honest.reply(sock)[:3] for _ in range(6)]
        assert codes == ["257", "215", "200", "550", "200", "200"], codes
        honest.passive(sock)
        port = honest.passive(sock)
        with honest.connect(server, source, port) as data:
            sock.sendall(b"MLSD\r\n")
            assert honest.reply(sock).startswith("150")
            data = sock.context.wrap_socket(data, session=sock.session)
            while data.recv(65536):
                pass
            data.close()
            assert honest.reply(sock).startswith("226")
    return 1


KINDS = {"python": python, "curl": curl, "lftp": lftp, "raw": raw}
