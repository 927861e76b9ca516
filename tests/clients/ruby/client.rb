# Ruby's net/ftp. Arguments: host, port, explicit or implicit, certificate file, stock or 1.2, steps.
require "net/ftp"

host, port, kind, certificate, variant, *steps = ARGV
implicit = kind == "implicit" ? { implicit_ftps: true } : {}
tls = { ca_file: certificate }
tls[:max_version] = OpenSSL::SSL::TLS1_2_VERSION if variant == "1.2"
ftp = Net::FTP.new(host, port: port.to_i, ssl: tls, username: "anna",
                   password: "pass word", passive: true, open_timeout: 30, read_timeout: 30, **implicit)
steps.each do |step|
  verb, name = step.split(":", 2)
  case verb
  when "put" then ftp.putbinaryfile(name)
  when "get" then ftp.getbinaryfile(name)
  when "list" then File.write(name, ftp.nlst.join("\n") + "\n")
  when "reget"
    ftp.resume = true
    ftp.getbinaryfile(name)
    ftp.resume = false
  when "reput"
    ftp.resume = true
    ftp.putbinaryfile(name)
    ftp.resume = false
  else raise step
  end
end
ftp.quit
