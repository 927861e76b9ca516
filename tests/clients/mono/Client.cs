// System.Net.FtpWebRequest, which knows explicit TLS alone. Arguments: host, port, explicit,
// certificate file, variant, steps.
using System;
using System.IO;
using System.Net;
using System.Security.Cryptography.X509Certificates;

class Client {
    static FtpWebRequest Request(string address, string verb) {
        var request = (FtpWebRequest) WebRequest.Create(address);
        request.Method = verb;
        request.Credentials = new NetworkCredential("anna", "pass word");
        request.EnableSsl = true;
        request.UsePassive = true;
        request.UseBinary = true;
        request.KeepAlive = true;
        request.Timeout = request.ReadWriteTimeout = 30000;
        return request;
    }

    static void Send(FtpWebRequest request, string name, long from) {
        using (var to = request.GetRequestStream())
        using (var file = File.OpenRead(name)) {
            file.Seek(from, SeekOrigin.Begin);
            file.CopyTo(to);
        }
        request.GetResponse().Close();
    }

    static void Receive(FtpWebRequest request, string name, FileMode mode) {
        using (var response = request.GetResponse())
        using (var from = response.GetResponseStream())
        using (var file = new FileStream(name, mode))
            from.CopyTo(file);
    }

    static int Main(string[] given) {
        var trusted = new X509Certificate2(given[3]).GetCertHashString();
        ServicePointManager.ServerCertificateValidationCallback =
            (sender, shown, chain, errors) => shown.GetCertHashString() == trusted;
        try {
            for (int number = 5; number < given.Length; number++) {
                var words = given[number].Split(new[] {':'}, 2);
                var name = words[1];
                var address = $"ftp://{given[0]}:{given[1]}/{name}";
                switch (words[0]) {
                    case "put": Send(Request(address, "STOR"), name, 0); break;
                    case "get": Receive(Request(address, "RETR"), name, FileMode.Create); break;
                    case "list":
                        Receive(Request($"ftp://{given[0]}:{given[1]}/", "NLST"), name, FileMode.Create);
                        break;
                    case "reget":
                        var rest = Request(address, "RETR");
                        rest.ContentOffset = new FileInfo(name).Length;
                        Receive(rest, name, FileMode.Append);
                        break;
                    case "reput":
                        long there;
                        using (var size = Request(address, "SIZE").GetResponse()) there = size.ContentLength;
                        Send(Request(address, "APPE"), name, there);
                        break;
                }
            }
            return 0;
        } catch (WebException error) {
            Console.Error.WriteLine(error.Message);
            for (var inner = error.InnerException; inner != null; inner = inner.InnerException)
                Console.Error.WriteLine(inner.Message);
            return 1;
        }
    }
}
