"""Python's ftplib. Arguments: host, port, explicit or implicit, certificate file, stock or session, steps."""
import ftplib
import os
import ssl
import sys


class FTPS(ftplib.FTP_TLS):
    """Data connections resume the control connection's TLS session; CLIENTS.md has this class."""

    def ntransfercmd(self, cmd, rest=None):
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:
            data = self.context.wrap_socket(
                data, server_hostname=self.host, session=self.sock.session)
        return data, size


def implicit(kind):
    """The same with TLS from the first byte, which ftplib does not have."""
    class Implicit(kind):
        _socket = None

        @property
        def sock(self):
            return self._socket

        @sock.setter
        def sock(self, value):
            if value is not None and not isinstance(value, ssl.SSLSocket):
                value = self.context.wrap_socket(value, server_hostname=self.host)
            self._socket = value

    return Implicit


def main():
    host, port, tls, certificate, variant, *steps = sys.argv[1:]
    kind = {"stock": ftplib.FTP_TLS, "session": FTPS}[variant]
    if tls == "implicit":
        kind = implicit(kind)
    ftp = kind(context=ssl.create_default_context(cafile=certificate), timeout=30)
    ftp.connect(host, int(port))
    ftp.login("anna", "pass word", secure=tls == "explicit")
    ftp.prot_p()
    for step in steps:
        verb, name = step.split(":")
        if verb == "put":
            with open(name, "rb") as file:
                ftp.storbinary(f"STOR {name}", file)
        elif verb == "get":
            with open(name, "wb") as file:
                ftp.retrbinary(f"RETR {name}", file.write)
        elif verb == "list":
            with open(name, "w") as file:
                ftp.retrlines("NLST", lambda line: file.write(line + "\n"))
        elif verb == "reget":
            with open(name, "ab") as file:
                ftp.retrbinary(f"RETR {name}", file.write, rest=os.path.getsize(name))
        elif verb == "reput":
            with open(name, "rb") as file:
                there = ftp.size(name)
                file.seek(there)
                ftp.storbinary(f"STOR {name}", file, rest=there)
    ftp.quit()


if __name__ == "__main__":
    main()
