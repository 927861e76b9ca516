<?php
// PHP's ext/ftp, which knows explicit TLS alone and checks no certificate. Arguments: host, port,
// explicit, certificate file, variant, steps.
[, $host, $port, , , ] = $argv;
set_error_handler(function ($number, $text) {
    fwrite(STDERR, "$text\n");
    exit(1);
});
$ftp = ftp_ssl_connect($host, (int) $port, 30);
ftp_login($ftp, "anna", "pass word");
ftp_pasv($ftp, true);
foreach (array_slice($argv, 6) as $step) {
    [$verb, $name] = explode(":", $step, 2);
    switch ($verb) {
        case "put": $done = ftp_put($ftp, $name, $name, FTP_BINARY); break;
        case "get": $done = ftp_get($ftp, $name, $name, FTP_BINARY); break;
        case "list":
            $found = ftp_nlist($ftp, ".");
            $done = $found !== false && file_put_contents($name, implode("\n", $found) . "\n") !== false;
            break;
        case "reget": $done = ftp_get($ftp, $name, $name, FTP_BINARY, filesize($name)); break;
        case "reput": $done = ftp_put($ftp, $name, $name, FTP_BINARY, ftp_size($ftp, $name)); break;
        default: $done = false;
    }
    if (!$done) {
        fwrite(STDERR, "$step: false, and no word why\n");
        exit(1);
    }
}
ftp_close($ftp);
