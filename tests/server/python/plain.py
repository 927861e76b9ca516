"""ftplib without TLS, passive and active. Usage: plain.py ADDRESS PORT USER PASSWORD"""
import ftplib
import io
import sys

address, port, user, password = sys.argv[1:]
content = bytes(range(256)) * 1000
for passive in (True, False):
    ftp = ftplib.FTP()
    ftp.connect(address, int(port), timeout=60)
    ftp.login(user, password)
    ftp.set_pasv(passive)
    assert ftp.storbinary("STOR file", io.BytesIO(content)).startswith("226")
    for rest in (None, 250000):
        back = io.BytesIO()
        ftp.retrbinary("RETR file", back.write, rest=rest)
        assert back.getvalue() == content[rest or 0:]
    assert ftp.nlst() == ["file"]
    assert [name for name, _ in ftp.mlsd()] == ["file"]
    lines = []
    ftp.dir(lines.append)
    assert len(lines) == 1 and lines[0].endswith(" file"), lines
    ftp.delete("file")
    assert ftp.nlst() == []
    ftp.quit()
