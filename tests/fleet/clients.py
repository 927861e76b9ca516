"""What the fleet's clients do, on their own machines: `clients.py HOST CA DIRECTORY NAME KIND...` uploads a file of
its own and downloads `served.bin` by each kind of client; a line of JSON for each tells what came of it."""

import ftplib
import hashlib
import json
import os
import ssl
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../clients/python"))
from by_ftplib import FTPS  # noqa: E402

KINDS = ("curl-epsv", "curl-pasv", "curl-pasv-trusting", "python-pasv", "python-pasv-trusting", "python-epsv", "lftp")
CURL = {"curl-epsv": (), "curl-pasv": ("--disable-epsv",),
        "curl-pasv-trusting": ("--disable-epsv", "--no-ftp-skip-pasv-ip")}
SIZE = 300_000


class Extended(FTPS):
    """One that asks for EPSV, whatever the family."""

    def makepasv(self):
        return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())


def connect(host, authority, kind="python-pasv", timeout=15):
    """A session that is logged in."""
    context = ssl.create_default_context(cafile=authority)
    client = (Extended if kind == "python-epsv" else FTPS)(context=context, timeout=timeout)
    client.trust_server_pasv_ipv4_address = kind == "python-pasv-trusting"
    client.connect(host)
    client.login("operator", "changed")
    client.prot_p()
    return client


def by_python(kind, host, authority, local, name, came):
    client = connect(host, authority, kind)
    with open(local, "rb") as file:
        client.storbinary(f"STOR {name}", file)
    with open(came, "wb") as file:
        client.retrbinary("RETR served.bin", file.write)
    client.quit()


def by_curl(kind, host, authority, local, name, came):
    base = ["curl", "-sS", "--ssl-reqd", "--cacert", authority, "-m", "30", "-u", "operator:changed", *CURL[kind]]
    for words in (["-T", local, f"ftp://{host}/{name}"], ["-o", came, f"ftp://{host}/served.bin"]):
        subprocess.run(base + words, check=True)


def by_lftp(kind, host, authority, local, name, came):
    script = (f"set ftp:ssl-force true; set ftp:ssl-protect-data true; set ssl:ca-file {authority}; set net:max-retries 1;"
              f"set net:timeout 4; set xfer:clobber true; open -u operator,changed ftp://{host};"
              f"put {local} -o {name} && get served.bin -o {came}")
    subprocess.run(["lftp", "-c", script], check=True)


def transfer(kind, host, authority, directory, name):
    """Both ways, by one kind of client."""
    os.makedirs(directory, exist_ok=True)
    local, came = (os.path.join(directory, f"{name}.{end}") for end in ("out", "in"))
    content = os.urandom(SIZE)
    with open(local, "wb") as file:
        file.write(content)
    begun = time.monotonic()
    failure = None
    try:
        {"c": by_curl, "p": by_python, "l": by_lftp}[kind[0]](kind, host, authority, local, name, came)
    except (OSError, EOFError, ftplib.Error, subprocess.CalledProcessError) as error:
        failure = f"{type(error).__name__}: {error}"
    received = None
    if os.path.exists(came):
        with open(came, "rb") as file:
            received = hashlib.sha256(file.read()).hexdigest()
    return {"kind": kind, "name": name, "sent": hashlib.sha256(content).hexdigest(), "received": received,
            "failure": failure, "seconds": round(time.monotonic() - begun, 2)}


def main():
    host, authority, directory, prefix, *kinds = sys.argv[1:]
    for kind in kinds or KINDS:
        print(json.dumps(transfer(kind, host, authority, directory, f"{prefix}-{kind}")), flush=True)


if __name__ == "__main__":
    main()
