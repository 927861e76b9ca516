"""ftplib as it comes: no data connection resumes. Prints the reply that a listing gets."""
import ftplib

from clients import connect

ftp = connect(ftplib.FTP_TLS)
try:
    ftp.nlst()
    reply = ftp.lastresp
except ftplib.Error as error:
    reply = str(error)
except OSError:
    # The data connection broke first; the reply is still to be read.
    try:
        reply = ftp.voidresp()
    except ftplib.Error as error:
        reply = str(error)
print(reply)
ftp.quit()
