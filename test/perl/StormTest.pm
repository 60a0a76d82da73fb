# What a storm is made of: clients that do whatever a client may do, people who
# change policies and settings all the time, and somebody who cancels,
# terminates and kills.  Each is a process of its own with a random sequence of
# its own, the same one for the same seed (what meets what is up to the
# scheduler).

package StormTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

our @EXPORT = qw(storm_objects start_process stop_processes outcomes one_of client changer killer
  reloader neighbour rss_kb);

# Until when; set by start_process() in its child.
my $end;
my %outcomes;

sub one_of { return $_[ int(rand @_) ] }

sub over { return time() >= $end }

sub note_outcome
{
	my ($result) = @_;

	$outcomes{ $result->{error} ? $result->{error}{C} : $result->{closed} ? 'closed' : 'ok' }++;
	return $result;
}

# In a process of its own: $what->(node) until the time is over.  What it has
# seen is in a file.
my %processes;

sub start_process
{
	my ($node, $name, $seed, $until, $what) = @_;
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		# no END block of PostgreSQL::Test::Cluster may stop the server
		$SIG{$_} = 'DEFAULT' for qw(TERM INT ALRM);
		$SIG{PIPE} = 'IGNORE';
		alarm 0;
		srand($seed);
		$end = $until;
		local $ResilienceTest::timeout = 30;
		while (!over())
		{
			eval { $what->($node) };
			# the server hung up on us; a restart takes a moment
			$outcomes{gone}++, sleep 0.05 if $@;
		}
		open(my $out, '>', outcome_file($name));
		print $out "$_ $outcomes{$_}\n" for sort keys %outcomes;
		close $out;
		require POSIX;
		POSIX::_exit(0);
	}
	$processes{$name} = $pid;
	return;
}

my $folder = PostgreSQL::Test::Utils::tempdir();

sub outcome_file { return "$folder/$_[0]" }

# Wait for all of them; returns the names of those that did not end in time.
sub stop_processes
{
	my ($seconds) = @_;
	my $last = time() + $seconds;
	my @late;

	for my $name (sort keys %processes)
	{
		my $pid = $processes{$name};
		my $done;

		while (!($done = waitpid($pid, 1)) && time() < $last) { sleep 0.05 }
		next if $done;
		push @late, $name;
		kill 'KILL', $pid;
		waitpid($pid, 0);
	}
	return @late;
}

# How often what happened, to the processes whose name begins so
sub outcomes
{
	my ($name) = @_;
	my %sum;

	for my $process (grep { /^\Q$name/ } keys %processes)
	{
		open(my $in, '<', outcome_file($process)) or next;
		while (<$in>) { $sum{$1} += $2 if /^(\S+) (\d+)$/ }
	}
	return %sum;
}

# What the statements below need; a loopback server stands for others.
sub storm_objects
{
	my ($node, $mon) = @_;
	my ($host, $port) = ($node->host, $node->port);

	$mon->ok($_) for (
		'CREATE EXTENSION postgres_fdw',
		'CREATE TABLE storm (id int, filler text)',
		q{INSERT INTO storm SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i},
		'ANALYZE storm',
		'CREATE TABLE written (id int)',
		"CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres')",
		"CREATE USER MAPPING FOR PUBLIC SERVER loopback OPTIONS (user 'far', password_required 'false')",
		q{CREATE FOREIGN TABLE far_storm (id int, filler text) SERVER loopback OPTIONS (table_name 'storm')},
		q{CREATE FOREIGN TABLE far_written (id int) SERVER loopback OPTIONS (table_name 'written')},
		q{CREATE PROCEDURE steps() LANGUAGE plpgsql AS
			'BEGIN FOR i IN 1 .. 3 LOOP PERFORM pg_sleep(0.001); COMMIT; END LOOP; END'},
		'GRANT ALL ON storm, written, far_storm, far_written TO storm, far',
		'GRANT EXECUTE ON FUNCTION resilience.retry, resilience.retry_query, resilience.run_feature, resilience.call_with_breaker,'
		  . ' resilience.breaker_acquire, resilience.breaker_record TO storm',
		'GRANT EXECUTE ON PROCEDURE resilience.retry_transaction TO storm',
		'GRANT pg_monitor TO storm',
		# policies that stay as they are, so that what is lost adds up
		"CREATE SERVER kept FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres')",
		"CREATE USER MAPPING FOR PUBLIC SERVER kept OPTIONS (user 'far', password_required 'false')",
		q{CREATE FOREIGN TABLE far_kept (id int, filler text) SERVER kept OPTIONS (table_name 'storm')},
		'GRANT ALL ON far_kept TO storm',
		q{SELECT resilience.create_breaker('kept', 'kept', max_failures => 1000000, failure_rate => 1, reset_timeout => '100 ms'),
			resilience.create_breaker('kept open'),
			resilience.create_breaker('kept generic', max_failures => 1000000, failure_rate => 1, reset_timeout => '100 ms'),
			resilience.create_bulkhead('kept', role_name => 'storm', max_running => 60, max_connections => 100, max_waiting => 100),
			resilience.create_bulkhead('kept tenants', role_name => 'storm', tag => 'tenant', max_running => 30, max_waiting => 30),
			resilience.create_feature('kept', fallback_sql => 'SELECT 3', fallback_on_error => true)},
		q{SELECT resilience.force_breaker('kept open', 'open')},
		# the other end has limits of its own
		'ALTER ROLE far SET resilience.mode = off');
	return;
}

my @statements = (
	'SELECT 1',
	'SELECT pg_sleep(0.005)',
	'SELECT 1/0',
	'SELECT count(*) FROM storm',
	'SELECT count(*) FROM storm a JOIN storm b USING (id)',
	'INSERT INTO written VALUES (1)',
	'BEGIN; SELECT 1; SAVEPOINT s; SELECT 2; ROLLBACK TO s; SELECT 3; COMMIT',
	'BEGIN; INSERT INTO written VALUES (1); SELECT pg_sleep(0.002); ROLLBACK',
	'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM written; INSERT INTO written VALUES (3); COMMIT',
	'DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN PERFORM 1; END $$',
	'DO $$ BEGIN PERFORM count(*) FROM far_storm; EXCEPTION WHEN others THEN PERFORM 1; END $$',
	'CALL steps()',
	'COPY (SELECT * FROM storm LIMIT 100) TO STDOUT',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM storm; FETCH 5 FROM c; MOVE 10 IN c; COMMIT',
	'DECLARE h CURSOR WITH HOLD FOR SELECT * FROM storm LIMIT 10; FETCH 3 FROM h; CLOSE h',
	'SET statement_timeout = 5; SELECT pg_sleep(1)',
	'SET resilience.requested_priority = low; SELECT 1; RESET resilience.requested_priority',
	'SET resilience.deadline = 3; SELECT pg_sleep(0.001); RESET resilience.deadline',
	# the leader and its workers
	'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;'
	  . ' SELECT count(*) FROM storm; RESET ALL',
	'SELECT count(*) FROM far_storm WHERE id < 100',
	'SELECT count(*) FROM far_kept WHERE id < 100',
	'SELECT count(*) FROM far_kept f, pg_sleep(0.02) WHERE id < 10',
	'BEGIN; DECLARE k CURSOR FOR SELECT * FROM far_kept; FETCH 1 FROM k; SELECT 1/0',
	q{BEGIN; SELECT resilience.breaker_acquire('kept generic'); SELECT pg_sleep(0.01)},
	q{SELECT resilience.call_with_breaker('kept generic', 'SELECT pg_sleep(0.01)')},
	'SELECT count(*) FROM far_storm f JOIN storm s USING (id) WHERE s.id < 50',
	'INSERT INTO far_written VALUES (2)',
	'BEGIN; DECLARE f CURSOR FOR SELECT * FROM far_storm; FETCH 1 FROM f; SAVEPOINT s; FETCH 300 FROM f; ROLLBACK TO s; COMMIT',
	q{SELECT resilience.retry('SELECT 1/0', retryable_sqlstates => '{22012}', base_delay => '1 ms', max_delay => '5 ms')},
	q{SELECT resilience.retry('INSERT INTO written VALUES (4)')},
	q{CALL resilience.retry_transaction('INSERT INTO written VALUES (5)')},
	q{SELECT resilience.call_with_breaker('breaker 1', 'SELECT 1')},
	q{SELECT resilience.call_with_breaker('kept open', 'SELECT 1')},
	q{SELECT resilience.call_with_breaker('breaker 2', 'SELECT 1/0')},
	q{SELECT CASE WHEN resilience.breaker_acquire('breaker 3') THEN resilience.breaker_record('breaker 3', random() < 0.7) END},
	# a permit that is not given back by hand
	q{BEGIN; SELECT resilience.breaker_acquire('breaker 1'); SELECT 1/0},
	q{SELECT resilience.feature_enabled('feature ' || i) FROM generate_series(1, 4) i},
	q{SELECT * FROM resilience.run_feature('feature 1', 'SELECT 1/0', 'SELECT 2') AS (i int)},
	'LISTEN resilience',
	'UNLISTEN *',
	'SELECT 1 /*tenant=\'one\'*/',
	'SELECT pg_sleep(0.001) /*tenant=\'two\',priority=\'low\'*/',
	'SELECT count(*) FROM resilience.bulkheads',
	'SELECT count(*) FROM resilience.metrics');

# One client's life: a session, some things done in it, an end of one kind
sub client
{
	my ($node) = @_;
	my $session = ResilienceTest::Client->new($node, user => 'storm', application_name => 'storm ' . int(rand 4));

	if ($session->{error})
	{
		note_outcome($session);
		sleep rand 0.05;
		return;
	}
	for (1 .. 1 + int(rand 30))
	{
		last if over();
		my $choice = int(rand 40);

		if ($choice == 0)
		{
			# without a word, in the middle
			$session->send(one_of('SELECT pg_sleep(0.05)', 'SELECT count(*) FROM far_kept, pg_sleep(0.03)',
					q{SELECT resilience.call_with_breaker('kept generic', 'SELECT pg_sleep(0.03)')}));
			sleep rand 0.02;
			return $session->vanish;
		}
		elsif ($choice == 1)
		{
			note_outcome($session->query('BEGIN; SELECT 1'));
			sleep rand 0.3;
		}
		elsif ($choice == 2)
		{
			$session->send(one_of('SELECT pg_sleep(0.05)', 'SELECT count(*) FROM far_kept f, pg_sleep(0.05)',
					q{SELECT resilience.call_with_breaker('kept generic', 'SELECT pg_sleep(0.05)')}));
			sleep rand 0.03;
			$session->cancel;
			note_outcome($session->result);
		}
		elsif ($choice == 3)
		{
			# a portal that is run in parts, and perhaps left
			$session->parse('', 'SELECT generate_series(1, 20)');
			$session->bind_portal('', '');
			$session->execute('', 3);
			$session->flush;
			$session->read_until('sEC');
			sleep rand 0.02;
			$session->execute('', 3) if rand() < 0.5;
			$session->sync;
			note_outcome($session->result);
		}
		elsif ($choice == 4)
		{
			$session->query('DEALLOCATE ALL');
			note_outcome($session->query('PREPARE p AS SELECT count(*) FROM storm WHERE id < $1'));
			note_outcome($session->query("EXECUTE p ($_)")) for 1 .. 7;
		}
		elsif ($choice == 5)
		{
			my $gid = "storm $$ " . int(rand 1000000);

			if (!note_outcome($session->query("BEGIN; INSERT INTO written VALUES (6); PREPARE TRANSACTION '$gid'"))->{error})
			{
				sleep rand 0.02;
				note_outcome($session->query(one_of('COMMIT', 'ROLLBACK') . " PREPARED '$gid'"));
			}
		}
		elsif ($choice == 6)
		{
			$session->send('COPY written FROM STDIN');
			my $asked = $session->read_until('GEZ');
			if (!$asked->{error} && !$asked->{closed})
			{
				$session->copy_data(rand() < 0.8 ? "7\n" : "no number\n");
				sleep rand 0.01;
				$session->copy_done;
			}
			note_outcome($session->result) unless $session->{eof};
		}
		else
		{
			note_outcome($session->query(one_of(@statements)));
		}
		die 'gone' if $session->{eof};
		$session->query('ROLLBACK') if rand() < 0.9;
		$session->query('RESET statement_timeout');
		die 'gone' if $session->{eof};
	}
	return rand() < 0.2 ? $session->vanish : $session->close;
}

# How a policy of each kind is made; %d is one of a few numbers
my %kinds = (
	bulkhead => [
		q{'bulkhead %1$d', role_name => 'storm', max_running => %3$d, max_waiting => 20, max_wait => '50 ms'},
		q{'bulkhead %1$d', application_name => 'storm %2$d', max_running => %3$d, max_connections => 40},
		q{'bulkhead %1$d', role_name => 'storm', tag => 'tenant', max_running => %3$d, max_waiting => 5, max_wait => '20 ms'},
		q{'bulkhead %1$d', role_name => 'storm', command => 'SELECT', max_running => %3$d, max_waiting => -1, max_wait => '30 ms'},
		q{'bulkhead %1$d', role_name => 'storm', cpu_share => 0.5, max_rate => 200, max_waiting => 10, mode => 'observe'},
		q{'bulkhead %1$d', database_name => '*', role_name => 'storm', max_running => 30, expires_at => now() + '3 s'},
	],
	breaker => [
		q{'breaker %1$d', max_failures => 3, reset_timeout => '200 ms', jitter => 0},
		q{'breaker %1$d', minimum_calls => 5, reset_timeout => '100 ms', max_concurrent_calls => %3$d},
		q{'breaker %1$d', 'loopback', reset_timeout => '300 ms', call_timeout => '2 s', max_concurrent_calls => 20},
		q{'breaker %1$d', 'loopback', reset_timeout => '300 ms', on_open => 'empty', max_failures => 4},
	],
	runaway_rule => [
		q{'rule %1$d', role_name => 'storm', max_duration => '30 ms', action => 'cancel'},
		q{'rule %1$d', role_name => 'storm', max_cpu => '50 ms', action => 'quarantine', quarantine_duration => '300 ms'},
		q{'rule %1$d', role_name => 'storm', max_rows_estimate => 15000, action => 'lower_priority'},
	],
	health_check => [
		q{'check %1$d', query => 'SELECT random() < 0.7', check_interval => '300 ms', timeout => '200 ms'},
		q{'check %1$d', query => 'SELECT pg_sleep(1) IS NULL', check_interval => '500 ms', timeout => '100 ms'},
		q{'check %1$d', 'connections', check_interval => '1 s', timeout => '500 ms'},
		q{'check %1$d', 'foreign_server', target => 'loopback', check_interval => '1 s', timeout => '500 ms'},
	],
	feature => [
		q{'feature %1$d', enabled => random() < 0.5, fallback_sql => 'SELECT 3', fallback_on_error => true},
		q{'feature %1$d', breaker => 'breaker %2$d', dimmable => true, minimum_priority => 'normal'},
		q{'feature %1$d', health_check => 'check %2$d'},
	],
	degradation => [
		q{'degradation %1$d', 'loaded', 'critical', '{"work_mem": "1MB", "max_parallel_workers_per_gather": 0}'},
		q{'degradation %1$d', 'shedding', 'normal', '{"statement_timeout": "1s"}'},
	],
	experiment => [
		q{'experiment %1$d', 'latency', 0.1, delay => '5 ms', variance => '3 ms', role_name => 'storm', max_duration => '3 s', stop_when_unhealthy => false},
		q{'experiment %1$d', 'error', 0.05, sqlstate => '58000', role_name => 'storm', max_duration => '3 s', stop_when_unhealthy => false},
		q{'experiment %1$d', 'cancel', 0.05, role_name => 'storm', max_duration => '3 s', stop_when_unhealthy => false},
		q{'experiment %1$d', 'terminate', 0.02, role_name => 'storm', max_duration => '3 s', stop_when_unhealthy => false},
		q{'experiment %1$d', 'foreign_error', 0.2, sqlstate => '08006', server => 'loopback', max_duration => '3 s', stop_when_unhealthy => false},
		q{'experiment %1$d', 'connection_refused', 0.1, role_name => 'storm', max_duration => '3 s', stop_when_unhealthy => false},
		q{'experiment %1$d', 'lock_delay', 0.2, delay => '5 ms', role_name => 'storm', relation => 'written', max_duration => '3 s', stop_when_unhealthy => false},
	]);
my %named = (runaway_rule => 'rule', health_check => 'check');

# Somebody who is never content with the policies; gentle => 1 leaves the
# statistics
sub changer
{
	my ($node, %params) = @_;
	my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off -c statement_timeout=20s');

	return note_outcome($session) if $session->{error};
	while (!over())
	{
		my @sql;

		for (1 .. one_of(1, 1, 1, 3))
		{
			my $kind = one_of(sort keys %kinds);
			my $name = ($named{$kind} // $kind) . ' ' . (1 + int(rand 4));
			my $definition = sprintf(one_of(@{ $kinds{$kind} }), 1 + int(rand 4), 1 + int(rand 4), int(rand 40));

			push @sql, one_of(
				("SELECT resilience.create_$kind($definition)") x 4,
				("SELECT resilience.drop_$kind('$name', if_exists => true)") x 2,
				"DELETE FROM resilience.${kind}_definitions WHERE name = '$name'",
				"UPDATE resilience.${kind}_definitions SET name = name",
				$kind eq 'experiment' ? ("SELECT resilience.start_experiment('$name')") x 4 : (),
				$kind eq 'experiment' ? 'SELECT resilience.stop_all_experiments()' : (),
				$kind eq 'feature' ? "SELECT resilience.set_feature('$name', random() < 0.5, 'storm')" : (),
				$kind eq 'bulkhead' ? "SELECT resilience.alter_bulkhead('$name', max_running => " . int(rand 10) . ')' : (),
				$kind eq 'breaker' ? "SELECT resilience.force_breaker('$name', '" . one_of(qw(open closed auto auto)) . "')" : (),
				$kind eq 'breaker' ? "SELECT resilience.reset_breaker('$name')" : (),
				$params{gentle} ? () : 'SELECT resilience.reset_statistics()',
				'ALTER SERVER loopback OPTIONS (SET dbname \'postgres\')',
				'DROP SERVER loopback',
				'DROP ROLE storm');
		}
		note_outcome($session->query(
				@sql == 1 ? $sql[0]
				: join('; ', 'BEGIN', $sql[0], 'SAVEPOINT s', $sql[1], 'ROLLBACK TO s', $sql[2], one_of('COMMIT', 'COMMIT', 'ROLLBACK'))));
		die 'gone' if $session->{eof};
		$session->query('ROLLBACK') if @sql > 1;
		sleep rand 0.05;
	}
	return $session->close;
}

# Who sends signals.  $params{crash}: seconds from one kill -9 to the next.
sub killer
{
	my ($node, %params) = @_;
	my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off');
	my $crash = $params{crash};
	my $next_crash = $crash && time() + $crash * (0.5 + rand());

	return note_outcome($session) if $session->{error};
	while (!over())
	{
		sleep rand 0.2;
		my $type = rand() < 0.9 || $params{gentle} ? q{= 'client backend' AND usename IN ('storm', 'far')} : q{LIKE 'resilience%'};
		my $result = $session->query("SELECT pid FROM pg_stat_activity WHERE backend_type $type ORDER BY random() LIMIT 1");
		die 'gone' if $session->{eof};
		my $pid = $result->{rows}[0] ? $result->{rows}[0][0] : next;

		if ($crash && time() > $next_crash)
		{
			# it may be gone, or on its way out, by now
			next unless kill('KILL', $pid);
			$outcomes{kill}++;
			# the server hangs up on us
			for (1 .. 100)
			{
				$session->query('SELECT pg_sleep(0.1)');
				die 'crash' if $session->{eof};
			}
			next;
		}
		note_outcome($session->query('SELECT ' . one_of(qw(pg_cancel_backend pg_cancel_backend pg_terminate_backend)) . "($pid)"));
	}
	return $session->close;
}

# Settings that come and go
my %settings = (
	'resilience.max_running' => [ -1, -1, 4, 8, 30 ],
	'resilience.max_waiting' => [ 0, 3, 1000 ],
	'resilience.max_wait' => [ '30ms', '300ms' ],
	'resilience.minimum_priority' => [qw(low low low normal high)],
	'resilience.preemption' => [qw(off waiting running)],
	'resilience.adaptive_limit' => [qw(on off)],
	'resilience.chaos' => [qw(on on on off)],
	'resilience.mode' => [qw(enforce enforce enforce enforce observe off)],
	'resilience.low_priority_cap' => [ -1, 1 ]);

sub reloader
{
	my ($node) = @_;
	my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off');

	return note_outcome($session) if $session->{error};
	while (!over())
	{
		my $name = one_of(sort keys %settings);

		note_outcome($session->query("ALTER SYSTEM SET $name = '" . one_of(@{ $settings{$name} }) . q{'}));
		note_outcome($session->query('SELECT pg_reload_conf()'));
		die 'gone' if $session->{eof};
		sleep rand 1;
	}
	return $session->close;
}

# Databases that come and go, with the extension and policies of their own
sub neighbour
{
	my ($node) = @_;
	my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off -c statement_timeout=20s');
	my $name = "side_$$";

	return note_outcome($session) if $session->{error};
	while (!over())
	{
		note_outcome($session->query("DROP DATABASE IF EXISTS $name WITH (FORCE)"));
		die 'gone' if $session->{eof};
		note_outcome($session->query("CREATE DATABASE $name"));
		my $there = eval { ResilienceTest::Client->new($node, dbname => $name, options => '-c resilience.mode=off') } or next;
		next if $there->{error};
		for my $sql (
			'CREATE EXTENSION resilience',
			q{SELECT resilience.create_bulkhead('side', database_name => '*', role_name => 'storm', max_running => 40)},
			q{SELECT resilience.create_health_check('side', query => 'SELECT true', check_interval => '200 ms', timeout => '100 ms')},
			q{SELECT resilience.create_feature('side', health_check => 'side'), resilience.create_breaker('side')},
			'SELECT pg_sleep(0.3 * random())',
			one_of('DROP EXTENSION resilience', 'BEGIN; DROP EXTENSION resilience; ROLLBACK', 'LISTEN resilience',
				'DROP EXTENSION resilience; CREATE EXTENSION resilience'))
		{
			note_outcome($there->query($sql));
			last if $there->{eof} || over();
		}
		$there->close unless $there->{eof};
		note_outcome($session->query("ALTER DATABASE $name RENAME TO ${name}_new; ALTER DATABASE ${name}_new RENAME TO $name")) if rand() < 0.3;
		die 'gone' if $session->{eof};
	}
	return $session->close;
}

# Memory of its own that a process has
sub rss_kb
{
	my ($pid) = @_;

	open(my $status, '<', "/proc/$pid/status") or return 0;
	while (my $line = <$status>) { return $1 if $line =~ m{^RssAnon:\s+(\d+) kB} }
	return 0;
}

1;
