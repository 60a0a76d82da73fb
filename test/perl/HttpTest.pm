# HTTP for the tests of the health endpoint: by raw sockets, since a test sends
# what no decent client would, and looks at what comes back byte by byte.

package HttpTest;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::IP;
use IO::Socket::UNIX;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(time sleep);

our @EXPORT = qw(
  free_port http_socket send_bytes read_answer get http json_of endpoint_pid have_endpoint
  wait_status component_of
);

sub free_port { return PostgreSQL::Test::Cluster::get_free_port() }

# Was the endpoint compiled in?  Where libmicrohttpd-dev is missing it is not.
sub have_endpoint
{
	my $library = qx("$ENV{PG_CONFIG}" --pkglibdir);

	chomp $library;
	return index(slurp_file("$library/resilience.so"), 'libmicrohttpd.so') >= 0;
}

# A connection to "127.0.0.1:1234", "[::1]:1234" or "/path"; undef if refused.
sub http_socket
{
	my ($address) = @_;

	return IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $address) if $address =~ m{^/};
	my ($host, $port) = $address =~ /^\[?(.*?)\]?:(\d+)$/;
	return IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_STREAM, Timeout => 10);
}

sub send_bytes
{
	my ($socket, $bytes) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		my $n = syswrite($socket, $bytes);
		return 0 unless defined $n;
		substr($bytes, 0, $n, '');
	}
	return 1;
}

# One answer: status, headers (lower case), body; undef if the other side hung
# up before, or nothing came.
sub read_answer
{
	my ($socket, %params) = @_;
	my $end = time() + ($params{seconds} // 20);
	my $buffer = $params{buffer} // \my $own_buffer;

	$$buffer //= '';
	while (1)
	{
		$$buffer =~ s/^HTTP\/1\.1 100 [^\r]*\r\n\r\n//;
		if ($$buffer =~ /^(HTTP\/1\.[01] (\d+)[^\r]*\r\n(.*?)\r\n)\r\n/s)
		{
			my ($head, $status, $lines) = ($1, $2, $3);
			my %headers = map { /^([^:]+):\s*(.*)$/ ? (lc $1 => $2) : () } split(/\r\n/, $lines);
			my $length = $params{head} ? 0 : $headers{'content-length'} // 0;

			if (length($$buffer) >= length($head) + 2 + $length)
			{
				my $body = substr($$buffer, length($head) + 2, $length);
				substr($$buffer, 0, length($head) + 2 + $length, '');
				return { status => $status, headers => \%headers, body => $body };
			}
		}
		my $left = $end - time();
		return if $left <= 0 || !IO::Select->new($socket)->can_read($left);
		return unless sysread($socket, $$buffer, 65536, length $$buffer);
	}
}

sub http
{
	my ($address, $method, $path, %headers) = @_;
	my $socket = http_socket($address) or return;

	$headers{Host} //= 'localhost';
	send_bytes($socket, "$method $path HTTP/1.1\r\nConnection: close\r\n"
		  . join('', map { "$_: $headers{$_}\r\n" } sort keys %headers) . "\r\n");
	return read_answer($socket, head => $method eq 'HEAD');
}

sub get
{
	my ($address, $path) = @_;

	return http($address, 'GET', $path) // { status => 0, headers => {}, body => '' };
}

sub json_of { return JSON::PP->new->utf8->decode($_[0]->{body}) }

# Wait until a path is answered with a status; returns the answer.
sub wait_status
{
	my ($address, $path, $status, $seconds) = @_;
	my $answer;

	wait_until(
		"$address$path answers $status",
		sub { return ($answer = get($address, $path))->{status} == $status },
		$seconds);
	return $answer;
}

# One component of /health, by kind and name.
sub component_of
{
	my ($address, $kind, $name) = @_;
	my $health = json_of(get($address, '/health'));

	return (grep { $_->{kind} eq $kind && $_->{name} eq $name } @{ $health->{components} })[0];
}

# The endpoint's process, 0 if there is none at the moment.
sub endpoint_pid
{
	my ($node) = @_;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];

	for my $pid (split ' ', slurp_file("/proc/$postmaster/task/$postmaster/children"))
	{
		open(my $file, '<', "/proc/$pid/cmdline") or next;
		my $title = <$file> // '';
		close $file;
		return $pid if $title =~ /resilience endpoint/ && process_lives($pid);
	}
	return 0;
}

1;
