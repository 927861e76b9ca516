"""As forty_ftplib.py, by libcurl with GnuTLS, one handle and so one session.

Arguments: host, port, certificate file, up-and-down or down, the directory of the client's files.
"""
import sys

import pycurl

host, port, certificate, transfers, here = sys.argv[1:6]
curl = pycurl.Curl()
curl.setopt(pycurl.USERPWD, "anna:pass word")
curl.setopt(pycurl.CAINFO, certificate)
curl.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
curl.setopt(pycurl.TIMEOUT, 30)
if transfers == "up-and-down":
    curl.setopt(pycurl.UPLOAD, 1)
    for number in range(20):
        with open(f"{here}/up-{number}", "rb") as file:
            curl.setopt(pycurl.URL, f"ftp://{host}:{port}/up-{number}")
            curl.setopt(pycurl.READDATA, file)
            curl.perform()
    curl.setopt(pycurl.UPLOAD, 0)
for number in range(20):
    with open(f"{here}/down-{number}", "wb") as file:
        curl.setopt(pycurl.URL, f"ftp://{host}:{port}/down-{number}")
        curl.setopt(pycurl.WRITEDATA, file)
        curl.perform()
curl.close()
