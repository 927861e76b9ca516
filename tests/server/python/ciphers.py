"""ftplib that wants AES. Prints the cipher suites of the control connection and of a data connection.
Usage: ciphers.py KIND ADDRESS PORT CERTIFICATE VERSION"""
import ftplib
import ssl
import sys

_, address, port, certificate, version = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
context.set_ciphers("ECDHE+AES256:ECDHE+AES128:ECDHE+CHACHA20")
version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
context.minimum_version = context.maximum_version = version


class Client(ftplib.FTP_TLS):
    def ntransfercmd(self, cmd, rest=None):
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        connection = context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session)
        return connection, size


ftp = Client(context=context)
ftp.connect(address, int(port), timeout=60)
ftp.login("anna", "pass word")
ftp.prot_p()
data = ftp.transfercmd("NLST")
while data.recv(100):
    pass
print(ftp.sock.cipher()[0], data.cipher()[0])
data.close()
ftp.voidresp()
ftp.quit()
