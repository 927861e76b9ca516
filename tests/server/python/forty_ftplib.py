"""Twenty uploads, then twenty downloads in one session of ftplib; the first failure ends it.

Further arguments: stock or session, up-and-down or down, the directory of the client's files.
"""
import ftplib
import sys

from clients import Reusing, connect

kind, transfers, here = sys.argv[6:9]
ftp = connect({"stock": ftplib.FTP_TLS, "session": Reusing}[kind])
if transfers == "up-and-down":
    for number in range(20):
        with open(f"{here}/up-{number}", "rb") as file:
            ftp.storbinary(f"STOR up-{number}", file)
for number in range(20):
    with open(f"{here}/down-{number}", "wb") as file:
        ftp.retrbinary(f"RETR down-{number}", file.write)
ftp.quit()
