"""Names that are no UTF-8, and names that are."""
import io

from clients import connect

for encoding, name in [
    ("utf-8", "Grüße aus 東京"),
    ("latin-1", "Grüße"),
    ("latin-1", "\x01\x1b[31m\x7f"),
    ("latin-1", "\xfe\xfd\x80"),
    ("utf-8", "-dash"),
    ("utf-8", " around "),
]:
    ftp = connect(encoding=encoding)
    ftp.storbinary("STOR " + name, io.BytesIO(b"content"))
    assert ftp.nlst() == [name], (ftp.nlst(), name)
    assert [entry for entry, _ in ftp.mlsd()] == [name]
    kept = io.BytesIO()
    ftp.retrbinary("RETR " + name, kept.write)
    assert kept.getvalue() == b"content"
    ftp.mkd("in " + name)
    ftp.rename(name, "in " + name + "/x")
    ftp.cwd("in " + name)
    assert ftp.pwd() == "/in " + name
    ftp.delete("x")
    ftp.cwd("/")
    ftp.rmd("in " + name)
    ftp.quit()
