# http_fuzz.pl SOCKET SECONDS SEED - requests that nobody should send
#
# To the health endpoint at a unix socket: mutations of good requests, requests
# in pieces, several in one go, no requests at all, connections that are left
# open.  Prints how many of what there were.  The caller looks whether the
# endpoint, and the server, are still there.

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(time sleep);

my ($path, $seconds, $seed) = @ARGV;
my (%seen, @open);
my @paths = qw(/ /health /live /ready /metrics /status /health.json /primary /replica?lag=1MB /favicon.ico);
my @methods = qw(GET HEAD POST PUT DELETE OPTIONS TRACE CONNECT PATCH G get);
my @headers = ('Host: localhost', 'Connection: close', 'Connection: keep-alive', 'Accept: text/html', 'Content-Length: 5',
	'Content-Length: -1', 'Content-Length: 99999999999999999999', 'Transfer-Encoding: chunked', 'Expect: 100-continue',
	'Upgrade: h2c', 'Range: bytes=0-1', 'Cookie: a=b', 'X-Forwarded-For: 127.0.0.1', 'Host:', 'Host: a b', "X: \x00\xff");

$SIG{PIPE} = 'IGNORE';
srand($seed);

sub pick { return $_[ int(rand(@_)) ] }

sub request
{
	my $target = pick(@paths);

	$target .= '?' . join('&', map { pick(qw(lag x %zz %00 = &)) . '=' . pick('1MB', '%ff', 'x' x int(rand(300)), '') } 1 .. 1 + int(rand(5)))
	  if rand() < 0.3;
	$target = '/' . ('../' x int(rand(50))) . $target if rand() < 0.1;
	$target = '/' . ('a' x int(rand(20000))) if rand() < 0.05;
	my $text = pick('GET', 'GET', 'GET', @methods) . " $target HTTP/" . pick('1.1', '1.1', '1.0', '0.9', '2.0', '9' x 30, '');
	$text .= pick("\r\n", "\r\n", "\r\n", "\n", '') . join("\r\n", map { pick(@headers) } 1 .. int(rand(8)));
	$text .= "\r\n" . join("\r\n", map { 'X-' . ('y' x int(rand(100))) . ': ' . ('z' x int(rand(200))) } 1 .. int(rand(100))) if rand() < 0.1;
	$text .= pick("\r\n\r\n", "\r\n\r\n", "\n\n", "\r\n", '');
	$text .= 'hello' if rand() < 0.1;
	# then some bytes are other ones
	if (rand() < 0.5)
	{
		substr($text, int(rand(length($text))), int(rand(3))) = join('', map { chr(int(rand(256))) } 1 .. int(rand(4))) for 0 .. int(rand(6));
	}
	$text = join('', map { chr(int(rand(256))) } 1 .. int(rand(3000))) if rand() < 0.05;
	return $text;
}

# Statuses of the answers that are there by the time that nothing comes any more
sub answers
{
	my ($socket) = @_;
	my $text = '';
	my $select = IO::Select->new($socket);

	while (length($text) < 1_000_000 && $select->can_read(0.02))
	{
		sysread($socket, $text, 65536, length($text)) or last;
	}
	$seen{ 'answer ' . ($1 // '') }++ while $text =~ m{^HTTP/1\.[01] (\d+)}mg;
	$seen{'no answer'}++ if $text !~ m{^HTTP/};
	return;
}

my $end = time + $seconds;
while (time < $end)
{
	my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path);

	if (!$socket)
	{
		$seen{refused}++;
		sleep 0.05;
		next;
	}
	$seen{connections}++;
	for (1 .. 1 + int(rand(4)))
	{
		my $text = request();

		$seen{requests}++;
		if (rand() < 0.2)
		{
			# in pieces
			while (length $text)
			{
				my $piece = substr($text, 0, 1 + int(rand(length($text))), '');
				defined syswrite($socket, $piece) or last;
			}
		}
		else
		{
			defined syswrite($socket, $text) or last;
		}
	}
	if (rand() < 0.1)
	{
		# left behind, half said
		push @open, $socket;
		shift @open if @open > 8;
	}
	elsif (rand() < 0.8)
	{
		answers($socket);
	}
}
print join(', ', map { "$_: $seen{$_}" } sort keys %seen), "\n";
