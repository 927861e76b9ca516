"""ftplib as it comes, with a client certificate: no data connection resumes, and none needs to.
Arguments: address, port, the server's certificate, the client's, its key, TLS version."""
import ftplib
import io
import ssl
import sys

host, port, server, certificate, key, version = sys.argv[1:]
context = ssl.create_default_context(cafile=server)
context.load_cert_chain(certificate, key)
context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
ftp = ftplib.FTP_TLS(context=context)
ftp.connect(host, int(port))
reply = ftp.login("camera", "")
assert reply.startswith("232"), reply
ftp.prot_p()
for number in range(5):
    content = b"x" * 100_000 + bytes([number])
    ftp.storbinary("STOR file", io.BytesIO(content))
    received = io.BytesIO()
    ftp.retrbinary("RETR file", received.write)
    assert received.getvalue() == content
ftp.quit()
