# Helpers of the TAP tests.
#
# Sessions are not psql processes but sockets that speak the protocol
# themselves (ResilienceTest::Client, below): a test can hold dozens of them,
# look whether one still waits, see every field of an error, and send what
# psql cannot (Execute with a row limit, a cancel at a chosen moment).

package ResilienceTest;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

our @EXPORT = qw(
  preloaded_node connect_to connect_refused monitor wait_until wait_for_value
  counts all_zero count_slots wait_waiting wait_running set_conf
  build_libpq_client error_is detail_of limit_seconds process_lives
  kill_postmaster monitor_after_crash
);

# Nothing here takes that long; a slow machine may.
our $timeout = $ENV{RSL_TEST_SECONDS} || 60;

# who ran initdb
our $superuser = getpwuid($<);

# A test that hangs must end, and say where.
sub limit_seconds
{
	my ($seconds) = @_;

	$SIG{ALRM} = sub { give_up("this test took longer than $seconds s") };
	alarm $seconds;
	return;
}

# A server with the library preloaded, the extension in the database
# "postgres", and plain roles as asked for.
#   conf => text for postgresql.conf     roles => [names]
#   init => [arguments of init()]        extension => 0 for none
#   new => {arguments of new()}
sub preloaded_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, %{ $params{new} || {} });

	limit_seconds(150);
	$node->init(@{ $params{init} || [] });
	$node->append_conf(
		'postgresql.conf', qq(
shared_preload_libraries = 'resilience'
restart_after_crash = on
log_statement = none
autovacuum = off
jit = off
max_connections = 100
max_prepared_transactions = 10
) . ($params{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION resilience')
	  unless defined $params{extension} && !$params{extension};
	$node->safe_psql('postgres',
		join('', map { "CREATE ROLE $_ LOGIN;\n" } @{ $params{roles} || ['app'] }));
	return $node;
}

# Settings of the whole server, in force when this returns.
sub set_conf
{
	my ($mon, %settings) = @_;

	while (my ($name, $value) = each %settings)
	{
		$mon->ok(
			defined $value
			? "ALTER SYSTEM SET $name = '$value'"
			: "ALTER SYSTEM RESET $name");
	}
	$mon->ok('SELECT pg_reload_conf()');

	# a new session has what the postmaster has read; all others were told
	my $wanted = join(' AND ', 'true',
		map { "(SELECT setting FROM pg_settings WHERE name = '$_') = '$settings{$_}'" }
		  grep { defined $settings{$_} } keys %settings);
	wait_until(
		"the server has read $wanted",
		sub {
			my $session = connect_to($mon->{node});
			my $result = $session->value("SELECT $wanted");
			$session->close;
			return $result eq 't';
		});

	# what the launcher publishes
	my %shown = (
		'resilience.max_running' => 'current_limit',
		'resilience.minimum_priority' => 'min_admitted_priority');
	for my $name (grep { exists $settings{$_} } keys %shown)
	{
		wait_until(
			"$name is in force",
			sub {
				$mon->value("SELECT $shown{$name}::text = current_setting('$name')"
					  . ' FROM resilience.load_shedder') eq 't';
			});
	}
	return;
}

# A session; dies when the server refuses it.  See ResilienceTest::Client.
sub connect_to
{
	my ($node, %params) = @_;
	my $client = ResilienceTest::Client->new($node, %params);

	give_up("cannot connect: $client->{error}{M}") if $client->{error};
	return $client;
}

# The error of a session that the server refuses; undef if it does not.
sub connect_refused
{
	my ($node, %params) = @_;
	my $client = ResilienceTest::Client->new($node, %params);
	my $error = $client->{error};

	$client->close unless $error;
	return $error;
}

# A superuser's session that neither counts nor waits, to look at the views.
sub monitor
{
	my ($node, %params) = @_;

	return connect_to($node, options => '-c resilience.mode=off', %params);
}

# The reason goes to the screen, too, not only to the log of the test.
# The same, once the server has started anew after a crash: before,
# the one that is about to end may still let somebody in.
sub monitor_after_crash
{
	my ($node) = @_;
	my $mon;

	wait_until(
		'the server has restarted',
		sub {
			my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off');

			return 0 if $session->{error};
			my $crash = $session->query(q{SELECT count(*) FROM resilience.events WHERE from_state = 'crashed'});
			return 0 if $crash->{error} || $crash->{closed} || !$crash->{rows}[0] || $crash->{rows}[0][0] != 1;
			$mon = $session;
			return 1;
		});
	return $mon;
}

sub give_up
{
	my ($reason) = @_;

	diag($reason);
	croak $reason;
}

sub wait_until
{
	my ($what, $condition, $seconds) = @_;
	my $end = time() + ($seconds // $timeout);

	while (1)
	{
		my $result = $condition->();
		return $result if $result;
		give_up("waited in vain until: $what") if time() > $end;
		sleep 0.01;
	}
}

# Wait until a query gives a value.
sub wait_for_value
{
	my ($client, $sql, $value, $seconds) = @_;
	my $end = time() + ($seconds // $timeout);

	while (1)
	{
		my $now = $client->value($sql) // 'NULL';
		return $now if $now eq $value;
		give_up("waited in vain for $value, there is $now: $sql") if time() > $end;
		sleep 0.01;
	}
}

# Wait until that many sessions wait for, or run in, a bulkhead, or the
# server-wide limit if there is no name.
sub wait_waiting { return wait_count('waiting', @_) }
sub wait_running { return wait_count('running', @_) }

sub wait_count
{
	my ($column, $mon, $name, $count) = @_;

	return wait_for_value($mon,
		defined $name
		? "SELECT $column FROM resilience.bulkheads WHERE name = '$name'"
		: "SELECT $column FROM resilience.load_shedder",
		$count);
}

# The counts of a bulkhead as "connections/running/waiting"; of the server as
# "running/waiting".
sub counts
{
	my ($mon, $name) = @_;

	return $mon->value(
		defined $name
		? "SELECT format('%s/%s/%s', connections, running, waiting) FROM resilience.bulkheads WHERE name = '$name'"
		: "SELECT format('%s/%s', running, waiting) FROM resilience.load_shedder");
}

# Every count in every view is back at zero.  The monitor's own connection
# counts in a bulkhead of everybody, hence "connections".
sub all_zero
{
	my ($mon, $label, %params) = @_;
	my $connections = $params{connections} // 0;
	my $query = q(
SELECT format('connections %s, running %s %s %s, waiting %s %s %s, active %s',
	b.connections, b.running, s.running, p.running,
	b.waiting, s.waiting, p.waiting, a.active)
FROM (SELECT coalesce(sum(connections), 0) connections,
		coalesce(sum(running), 0) running, coalesce(sum(waiting), 0) waiting
	FROM resilience.bulkheads) b,
	(SELECT running, waiting FROM resilience.load_shedder) s,
	(SELECT sum(running) running, sum(waiting) waiting FROM resilience.load_by_priority) p,
	(SELECT count(*) active FROM resilience.activity
		WHERE state <> 'idle' OR wait_start IS NOT NULL OR run_start IS NOT NULL) a);
	my $expected = "connections $connections, running 0 0 0, waiting 0 0 0, active 0";
	my $end = time() + ($params{seconds} // 10);
	my $now;

	# who has just left may still be on its way out
	while (1)
	{
		$now = $mon->value($query);
		last if $now eq $expected || time() > $end;
		sleep 0.01;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($now, $expected, "all counts are zero $label");
}

# How many transactions are let run at once, really?  The views count
# sessions; this finds a slot that was lost, or one that was given back twice.
# Whoever is refused or waits ends the count.
sub count_slots
{
	my ($node, $mon, $most, %params) = @_;
	my @clients;
	my $running = 0;

	for (0 .. $most)
	{
		my $client = connect_to($node, user => 'app', %params);
		my $state = '';

		push @clients, $client;
		$client->send('SELECT pg_sleep(1000)');
		wait_until(
			"session $_ runs, waits or is refused",
			sub {
				return 1 if $client->done;
				$state = $mon->value("SELECT state FROM resilience.activity WHERE pid = $client->{pid}") // '';
				# just awake and not asleep yet counts as "idle"
				return $state eq 'running' || $state eq 'waiting';
			});
		last if $client->done || $state eq 'waiting';
		$running++;
	}
	for (@clients)
	{
		$_->cancel unless $_->done;
		$_->result;
		$_->close;
	}
	wait_for_value($mon,
		'SELECT count(*) FROM resilience.activity WHERE pid IN ('
		  . join(',', map { $_->{pid} } @clients) . ')', 0);
	return $running;
}

# One field of the error: "key=value" pairs are in DETAIL.
sub detail_of
{
	my ($result, $key) = @_;
	my $error = $result->{error} || $result;

	return ($error->{D} // '') =~ /(?:^|\s)\Q$key\E=(\S+)/ ? $1 : undef;
}

sub error_is
{
	my ($result, $sqlstate, $label) = @_;
	my $got = $result->{error} ? $result->{error}{C} : 'no error';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($got, $sqlstate, $label)
	  || diag('message: ' . ($result->{error}{M} // '(none)') . ' DETAIL: ' . ($result->{error}{D} // ''));
}

# A zombie that nobody has reaped is dead.
sub process_lives
{
	my ($pid) = @_;

	open(my $stat, '<', "/proc/$pid/stat") or return 0;
	my $line = <$stat> // '';
	close $stat;
	return $line ne '' && $line !~ /\) [ZX] /;
}

# Kill the postmaster, and wait until all its children have noticed.  Returns
# whether they have.
sub kill_postmaster
{
	my ($node, $mon, @more_pids) = @_;
	my $postmaster = $node->{_pid};
	my @pids = (
		$postmaster, @more_pids,
		map { $_->[0] } @{ $mon->ok('SELECT pid FROM pg_stat_activity')->{rows} });
	my $all_gone = 0;

	$node->kill9;
	for (1 .. 1000)
	{
		$all_gone = !grep { process_lives($_) } @pids;
		last if $all_gone;
		sleep 0.02;
	}
	# A zombie, where nobody reaps, looks alive to the next postmaster.
	unlink($node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock')
	  if $all_gone;
	return $all_gone;
}

# Compile pipeline.c, or another client; returns the program's path.
sub build_libpq_client
{
	my ($name) = @_;
	$name //= 'pipeline';
	my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
	my $program = PostgreSQL::Test::Utils::tempdir() . "/$name";
	my %config;

	for my $item (qw(cc includedir libdir))
	{
		my $value = qx('$pg_config' --$item);
		chomp $value;
		$config{$item} = $value;
	}
	my @command = (
		split(' ', $config{cc} || 'cc'),
		'-Wall', '-O1', '-pthread', "-I$config{includedir}",
		'-I/usr/include/postgresql',
		'-o', $program,
		dirname(__FILE__) . "/../t/$name.c",
		"-L$config{libdir}", '-lpq');
	note("@command");
	PostgreSQL::Test::Utils::system_or_bail(@command);
	return $program;
}


# A session of the frontend/backend protocol 3.0.
package ResilienceTest::Client;

use strict;
use warnings;

use Carp;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(time sleep);

# Connect: user, dbname, application_name, options (as in PGOPTIONS); tcp => 1
# comes over 127.0.0.1 instead of the socket, replication as in libpq.  Only
# trust authentication.  A refusal is in {error}.
sub new
{
	my ($class, $node, %params) = @_;
	my $self = bless { node => $node, tcp => $params{tcp}, buffer => '' }, $class;

	$self->{socket} = $self->open_socket;
	my $body = pack('N', 196608);
	my %startup = (
		user => $params{user} // $ResilienceTest::superuser,
		database => $params{dbname} // 'postgres');
	for my $name (qw(application_name options replication))
	{
		$startup{$name} = $params{$name} if defined $params{$name};
	}
	$body .= "$_\0$startup{$_}\0" for sort keys %startup;
	$body .= "\0";
	$self->write_raw(pack('N', length($body) + 4) . $body);
	$self->started unless $params{later};
	return $self;
}

# The server's answer to the start-up packet: what new() does, unless it is
# called with later => 1.  Returns the error, if any.
sub started
{
	my ($self) = @_;
	my $result = $self->result;

	$self->{error} = $result->{error}
	  || ($result->{closed} && { C => '', M => 'connection closed', D => '' });
	return $self->{error};
}

sub open_socket
{
	my ($self) = @_;
	my $node = $self->{node};
	my $end = time() + 10;

	while (1)
	{
		my $socket =
		  $self->{tcp}
		  ? IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->port, Proto => 'tcp')
		  : IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $node->host . '/.s.PGSQL.' . $node->port);
		return $socket if $socket;
		# a postmaster that restarts after a crash has a full backlog at worst
		croak 'cannot connect to node ' . $node->name . ": $!" if time() > $end || !$!{EAGAIN};
		sleep 0.01;
	}
}

sub write_raw
{
	my ($self, $bytes) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		my $n = syswrite($self->{socket}, $bytes);
		return 0 unless defined $n;    # the reader will notice
		substr($bytes, 0, $n, '');
	}
	return 1;
}

sub message
{
	my ($self, $type, $body) = @_;

	return $self->write_raw($type . pack('N', length($body // '') + 4) . ($body // ''));
}

# Read what is there, waiting at most that long.  Returns false when nothing
# came.
sub fill
{
	my ($self, $seconds) = @_;

	return 0 if $self->{eof};
	return 0 unless IO::Select->new($self->{socket})->can_read($seconds);
	my $n = sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer});
	$self->{eof} = 1 unless $n;
	return 1;
}

# Take the next message from the buffer into the current result.  Returns its
# type, or undef when there is no complete one.
sub next_message
{
	my ($self) = @_;

	return if length $self->{buffer} < 5;
	my ($type, $length) = unpack('aN', $self->{buffer});
	return if length $self->{buffer} < $length + 1;
	my $body = substr($self->{buffer}, 5, $length - 4);
	substr($self->{buffer}, 0, $length + 1, '');

	my $result = $self->{partial} //= { rows => [], tags => [], notices => [], types => '', copy => '' };
	$result->{types} .= $type;
	if ($type eq 'D')
	{
		my $n = unpack('n', $body);
		my $offset = 2;
		my @row;

		for (1 .. $n)
		{
			my $size = unpack('l>', substr($body, $offset, 4));
			$offset += 4;
			push @row, $size < 0 ? undef : substr($body, $offset, $size);
			$offset += $size if $size > 0;
		}
		push @{ $result->{rows} }, \@row;
	}
	elsif ($type eq 'C')
	{
		push @{ $result->{tags} }, unpack('Z*', $body);
	}
	elsif ($type eq 'E' || $type eq 'N')
	{
		my %fields = map { substr($_, 0, 1) => substr($_, 1) } grep { length } split(/\0/, $body);
		if ($type eq 'E') { $result->{error} //= \%fields }
		else { push @{ $result->{notices} }, \%fields }
	}
	elsif ($type eq 'R')
	{
		my $method = unpack('N', $body);
		croak "authentication method $method is not for this client" if $method != 0;
	}
	elsif ($type eq 'K')
	{
		($self->{pid}, $self->{key}) = unpack('NN', $body);
	}
	elsif ($type eq 'd')
	{
		$result->{copy} .= $body;
	}
	elsif ($type eq 'A')
	{
		my ($pid, $channel, $payload) = unpack('NZ*Z*', $body);
		push @{ $self->{notifications} }, { pid => $pid, channel => $channel, payload => $payload };
	}
	elsif ($type eq 'Z')
	{
		$result->{status} = $body;
	}
	return $type;
}

# Read until a message of one of these types has come (a character class), or
# the server has closed.  Returns the result so far, which goes on unless the
# last message was ReadyForQuery.
sub read_until
{
	my ($self, $types, $seconds) = @_;
	my $end = time() + ($seconds // $ResilienceTest::timeout);

	while (1)
	{
		while (defined(my $type = $self->next_message))
		{
			if ($type =~ /[$types]/)
			{
				my $result = $self->{partial};
				$self->{partial} = undef if $type eq 'Z';
				return $result;
			}
		}
		if ($self->{eof})
		{
			my $result = $self->{partial} // { rows => [], tags => [], notices => [], types => '', copy => '' };
			$result->{closed} = 1;
			return $result;
		}
		my $left = $end - time();
		ResilienceTest::give_up('no answer from backend ' . ($self->{pid} // '?')) if $left <= 0;
		$self->fill($left);
	}
}

# The answer to what was sent, up to ReadyForQuery: rows, tags, error (fields
# by letter: C = SQLSTATE, M, D, H), notices, types of all messages, status,
# closed if the server hung up.
sub result
{
	my ($self, $seconds) = @_;

	if ($self->{finished})
	{
		my $result = $self->{finished};
		$self->{finished} = undef;
		return $result;
	}
	return $self->read_until('Z', $seconds);
}

# Has the answer arrived?  Waits for it at most that long.
sub done
{
	my ($self, $seconds) = @_;
	my $end = time() + ($seconds // 0);

	return 1 if $self->{finished};
	while (1)
	{
		while (defined(my $type = $self->next_message))
		{
			next if $type ne 'Z';
			$self->{finished} = $self->{partial};
			$self->{partial} = undef;
			return 1;
		}
		return 1 if $self->{eof};
		my $left = $end - time();
		my $came = $self->fill($left > 0 ? $left : 0);
		return 0 if !$came && $left <= 0;
	}
}

sub send
{
	my ($self, $sql) = @_;

	return $self->message('Q', "$sql\0");
}

sub query
{
	my ($self, $sql, $seconds) = @_;

	$self->send($sql);
	return $self->result($seconds);
}

# A query that must succeed.
sub ok
{
	my ($self, $sql, $seconds) = @_;
	my $result = $self->query($sql, $seconds);

	ResilienceTest::give_up("$sql: $result->{error}{M} ($result->{error}{C})") if $result->{error};
	ResilienceTest::give_up("$sql: the server hung up") if $result->{closed};
	return $result;
}

# The first column of its first row.
sub value
{
	my ($self, $sql) = @_;
	my $result = $self->ok($sql);

	return $result->{rows}[0] ? $result->{rows}[0][0] : undef;
}

# The extended protocol.  Nothing is answered before flush() or sync().
sub parse
{
	my ($self, $statement, $sql) = @_;
	return $self->message('P', "$statement\0$sql\0" . pack('n', 0));
}

sub bind_portal
{
	my ($self, $portal, $statement) = @_;
	return $self->message('B', "$portal\0$statement\0" . pack('nnn', 0, 0, 0));
}

sub execute
{
	my ($self, $portal, $max_rows) = @_;
	return $self->message('E', "$portal\0" . pack('N', $max_rows // 0));
}

sub close_portal
{
	my ($self, $portal) = @_;
	return $self->message('C', "P$portal\0");
}

sub flush { return $_[0]->message('H') }
sub sync { return $_[0]->message('S') }

# Be in the middle of a statement until let_go() sends the Sync that ends it:
# a suspended portal is not idle, so its slot is not lent.
sub hold
{
	my ($self) = @_;

	$self->parse('', 'SELECT generate_series(1, 2)');
	$self->bind_portal('', '');
	$self->execute('', 1);
	$self->flush;
	my $result = $self->read_until('sE');
	ResilienceTest::give_up("cannot hold a slot: $result->{error}{M}") if $result->{error};
	return;
}

sub let_go { return $_[0]->sync }

# COPY FROM STDIN, after the server has asked for data (read_until('GE')).
sub copy_data { return $_[0]->message('d', $_[1]) }
sub copy_done { return $_[0]->message('c') }

# As libpq's PQcancel(): the request is a connection of its own.
sub cancel
{
	my ($self) = @_;
	my $socket = $self->open_socket;

	local $SIG{PIPE} = 'IGNORE';
	syswrite($socket, pack('NNNN', 16, 80877102, $self->{pid}, $self->{key}));
	# the postmaster's child closes it when the signal has been sent
	IO::Select->new($socket)->can_read(10);
	CORE::close $socket;
	return;
}

# Leave with a Terminate message.
sub close
{
	my ($self) = @_;

	return unless $self->{socket};
	$self->message('X');
	CORE::close $self->{socket};
	$self->{socket} = undef;
	return;
}

# Leave without a word, as a client does that was killed.
sub vanish
{
	my ($self) = @_;

	CORE::close $self->{socket};
	$self->{socket} = undef;
	return;
}

1;
