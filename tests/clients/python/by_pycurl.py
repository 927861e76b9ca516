"""libcurl with GnuTLS, one handle. Arguments: host, port, explicit or implicit, certificate file, variant, steps."""
import os
import sys

import pycurl

host, port, tls, certificate, variant, *steps = sys.argv[1:]
curl = pycurl.Curl()
for step in steps:
    verb, name = step.split(":")
    curl.reset()
    curl.setopt(pycurl.USERPWD, "anna:pass word")
    curl.setopt(pycurl.CAINFO, certificate)
    curl.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
    curl.setopt(pycurl.TIMEOUT, 60)
    if variant == "tls12":
        curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_MAX_TLSv1_2)
    scheme = "ftp" if tls == "explicit" else "ftps"
    address = f"{scheme}://{host}:{port}/"
    with open(name, {"put": "rb", "reput": "rb", "reget": "ab"}.get(verb, "wb")) as file:
        if verb in ("put", "reput"):
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.READDATA, file)
            curl.setopt(pycurl.SEEKFUNCTION, lambda offset, origin: file.seek(offset, origin) and 0)
        else:
            curl.setopt(pycurl.WRITEDATA, file)
        if verb == "reput":
            curl.setopt(pycurl.RESUME_FROM, -1)
        if verb == "reget":
            curl.setopt(pycurl.RESUME_FROM, os.path.getsize(name))
        if verb == "list":
            curl.setopt(pycurl.DIRLISTONLY, 1)
        curl.setopt(pycurl.URL, address if verb == "list" else address + name)
        try:
            curl.perform()
        except pycurl.error as error:
            sys.exit(f"{step}: {error}")
