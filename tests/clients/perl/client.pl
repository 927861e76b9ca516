#!/usr/bin/perl
# Net::FTP as Perl has it, with IO::Socket::SSL. Arguments: host, port, explicit or implicit,
# certificate file, stock or resuming, steps.
use strict;
use warnings;
use Net::FTP;

my ($host, $port, $kind, $certificate, $variant, @steps) = @ARGV;
# Net::FTP forgets to have data connections look for the control connection's session.
IO::Socket::SSL::set_client_defaults(SSL_session_key => $host, SSL_version => "TLSv1_2")
    if $variant eq "resuming";
my $ftp = Net::FTP->new($host, Port => $port, Timeout => 30, Passive => 1,
    SSL => $kind eq "implicit", SSL_ca_file => $certificate) or die "$@\n";
$kind eq "implicit" or $ftp->starttls or die $ftp->message;
$ftp->login("anna", "pass word") or die $ftp->message;
$ftp->prot("P") or die $ftp->message;
$ftp->binary or die $ftp->message;
for (@steps) {
    my ($verb, $name) = split /:/, $_, 2;
    my $done;
    if ($verb eq "put") { $done = $ftp->put($name) }
    elsif ($verb eq "get") { $done = $ftp->get($name) }
    elsif ($verb eq "list") {
        my @found = $ftp->ls or die $ftp->message;
        open my $to, ">", $name or die $!;
        print $to "$_\n" for @found;
        $done = close $to;
    }
    elsif ($verb eq "reget") { $done = $ftp->get($name, $name, -s $name) }
    elsif ($verb eq "reput") {
        my $there = $ftp->size($name);
        open my $from, "<", $name or die $!;
        binmode $from;
        seek $from, $there, 0;
        $done = $ftp->append($from, $name);
    }
    $done or die "$_: " . $ftp->message;
}
$ftp->quit;
