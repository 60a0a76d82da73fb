# One compartment for each value of a tag: limits, sums, views, values that
# come and go, every way out of a transaction.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

# an encoding in which not every byte is text
my $node = preloaded_node('compartments', conf => "resilience.max_compartments = 4\n",
	init => [ extra => [ '--encoding=UTF8', '--locale=C' ] ]);
my $mon = monitor($node);
my $full = '53R01';
my $ok = 'no error';

sub admin { return $mon->ok("SELECT resilience.$_[0]") }

admin(q{create_bulkhead('tenants', tag => 'tenant', max_running => 1)});

my @clients = map { connect_to($node, user => 'app') } 0 .. 7;

sub begin
{
	my ($client, $value) = @_;
	return $client->query("BEGIN; SELECT 1 /*tenant='$value'*/");
}

sub rows
{
	return $mon->value(q{
		SELECT coalesce(string_agg(format('%s %s/%s', coalesce(value, 'other'), running, waiting),
			', ' ORDER BY value), 'none')
		FROM resilience.compartments WHERE running + waiting > 0});
}

# the idle transactions of this test keep their slots
$_->ok('SET idle_in_transaction_session_timeout = 0') for @clients;

# Within a transaction, and not idle: until done() is called.
sub hold
{
	my ($client, $value, $expected) = @_;

	$client->parse('', "SELECT generate_series(1, 3) /*tenant='$value'*/");
	$client->bind_portal('', '');
	$client->execute('', 1);
	$client->flush;
	return;
}

sub held
{
	my ($client, $value) = @_;

	hold($client, $value);
	return $client->read_until('sE')->{types};
}

sub done
{
	my ($client) = @_;
	$client->sync;
	return $client->result;
}

like(held($clients[0], 'a'), qr/s$/, 'one of a');
like(held($clients[1], 'b'), qr/s$/, 'and one of b');
is(rows(), 'a 1/0, b 1/0', 'each in its own compartment');
my $result = $clients[2]->query(q{SELECT 1 /*tenant='a'*/});
error_is($result, $full, 'not a second one of a');
like($result->{error}{D}, qr/limit=1 running=1 .* compartment="a"$/, 'the error says which');
error_is($clients[2]->query(q{SELECT 1 /*tenant='c'*/}), $ok, 'c has one of its own');
error_is($clients[2]->query(q{SELECT 1}), $ok, 'without the tag nothing is limited');
is(counts($mon, 'tenants'), '0/2/0', 'the bulkhead shows the sum');
is($mon->value(q{SELECT format('%s %s', admitted_total, refused_statements_total) FROM resilience.bulkheads}),
	'3 1', 'of the totals, too');
is($mon->value(q{SELECT string_agg(format('%s %s %s', value, admitted_total, refused_statements_total), ', ' ORDER BY value)
	FROM resilience.compartments}), 'a 1 1, b 1 0, c 1 0', 'each has its own totals');
is($mon->value(q{SELECT count(*) FROM resilience.compartments WHERE last_used > now() - interval '1 min'}),
	3, 'last_used');
is($mon->value("SELECT compartments::text FROM resilience.activity WHERE pid = $clients[0]{pid}"),
	'{a}', 'view activity shows the compartment');
is($mon->value("SELECT compartments IS NULL FROM resilience.activity WHERE pid = $clients[2]{pid}"),
	't', 'while it is used');
done($_) for @clients[0, 1];
all_zero($mon, 'after that');

# waiting, limits that change
admin(q{alter_bulkhead('tenants', max_waiting => 5, max_wait => '1 min')});
held($clients[0], 'a');
held($clients[1], 'b');
hold($_, 'a') for @clients[2, 3];
wait_waiting($mon, 'tenants', 2);
is(rows(), 'a 1/2, b 1/0', 'two wait for a');
is($mon->value("SELECT compartments::text FROM resilience.activity WHERE pid = $clients[2]{pid}"),
	'{a}', 'and that is shown');
done($clients[1]);
is(rows(), 'a 1/2', 'a slot of b does not help them');
done($clients[0]);
wait_for_value($mon, q{SELECT running + 10 * waiting FROM resilience.compartments WHERE value = 'a'}, 11);
pass('one of a does');
admin(q{alter_bulkhead('tenants', max_running => 2)});
wait_for_value($mon, q{SELECT running + 10 * waiting FROM resilience.compartments WHERE value = 'a'}, 2);
pass('a higher limit reaches the compartment');
for (@clients[2, 3]) { $_->read_until('sE'); done($_) }
admin(q{alter_bulkhead('tenants', max_running => 0, max_waiting => 0)});
error_is($clients[0]->query(q{SELECT 1 /*tenant='a'*/}), $full, 'in force when COMMIT returns');
error_is($clients[0]->query(q{SELECT 1 /*tenant='new'*/}), $full, 'for new values');
admin(q{alter_bulkhead('tenants', max_running => 1, mode => 'observe')});
held($clients[0], 'a');
error_is($clients[1]->query(q{SELECT 1 /*tenant='a'*/}), $ok, 'mode observe');
done($clients[0]);
admin(q{alter_bulkhead('tenants', mode => 'enforce')});

# more values than compartments: the least recently used goes
for my $value (qw(a b c new d))
{
	error_is($clients[0]->query("SELECT 1 /*tenant='$value'*/"), $ok, "value $value");
}
is($mon->value(q{SELECT string_agg(value, ' ' ORDER BY value) FROM resilience.compartments}),
	'b c d new', 'a had to go');
$clients[0]->ok(q{SELECT 1 /*tenant='b'*/});
$clients[0]->ok(q{SELECT 1 /*tenant='e'*/});
is($mon->value(q{SELECT string_agg(value, ' ' ORDER BY value) FROM resilience.compartments}),
	'b d e new', 'then c');
is($mon->value(q{SELECT no_compartment_total FROM resilience.bulkheads}), 0, 'there was always one');

# all in use: the others share
held($clients[$_], "v$_") for 0 .. 3;
is(rows(), 'v0 1/0, v1 1/0, v2 1/0, v3 1/0', 'all are in use');
like(held($clients[4], 'v4'), qr/s$/, 'another value');
is(rows(), 'v0 1/0, v1 1/0, v2 1/0, v3 1/0, other 1/0', 'is among the others');
error_is($clients[5]->query(q{SELECT 1 /*tenant='v5'*/}), $full, 'who share one compartment');
is(counts($mon, 'tenants'), '0/5/0', 'all are in the sum');
is($mon->value(q{SELECT no_compartment_total FROM resilience.bulkheads}), 2, 'counted');
done($clients[0]);
error_is($clients[5]->query(q{SELECT 1 /*tenant='v5'*/}), $ok, 'one is free again');
done($_) for @clients[1 .. 4];
all_zero($mon, 'after all that');

# a transaction stays in the compartment that it is in
$clients[0]->ok(q{BEGIN; SELECT 1 /*tenant='x'*/; SELECT 1 /*tenant='y'*/});
is($mon->value("SELECT compartments::text FROM resilience.activity WHERE pid = $clients[0]{pid}"),
	'{x}', 'the first value counts');
# which is lent while it is idle, and not given away
wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $clients[0]{pid}", 'idle in transaction');
wait_until('its slot is lent',
	sub { my $r = $clients[1]->query(q{SELECT 1 /*tenant='x'*/}); return !$r->{error} });
pass('an idle transaction lends its slot of the compartment');
$clients[1]->ok("SELECT 1 /*tenant='w$_'*/") for 1 .. 8;
is($mon->value(q{SELECT count(*) FROM resilience.compartments WHERE value = 'x'}), 1,
	'but keeps the compartment');
hold($clients[0], 'z');
$clients[0]->read_until('sE');
error_is($clients[1]->query(q{SELECT 1 /*tenant='x'*/}), $full, 'and takes the slot back');
done($clients[0]);
$clients[0]->ok('COMMIT');
# a later statement
$clients[0]->ok(q{BEGIN; SELECT 1; SELECT 1 /*tenant='x'*/});
is(rows(), 'x 1/0', 'charged by a later statement');
$clients[0]->ok('ROLLBACK');
all_zero($mon, 'after transactions');

# ways out, each in a compartment: what is pinned could not be used again
my $round = 0;
my %ways = (
	error => sub { $_[0]->query("SELECT 1/0 $_[1]") },
	'failed transaction' => sub { $_[0]->query("BEGIN; SELECT 1 $_[1]; SELECT 1/0"); $_[0]->query('ROLLBACK') },
	cancel => sub {
		$_[0]->send("SELECT pg_sleep(1000) $_[1]");
		wait_running($mon, 'tenants', 1);
		$_[0]->cancel;
		$_[0]->result;
	},
	'cancel while waiting' => sub {
		$_[2]->send("SELECT pg_sleep(1000) $_[1]");
		wait_running($mon, 'tenants', 1);
		$_[0]->send("SELECT 1 $_[1]");
		wait_waiting($mon, 'tenants', 1);
		$_[0]->cancel;
		$_[0]->result;
		$_[2]->cancel;
		$_[2]->result;
	},
	termination => sub {
		$_[0]->send("SELECT pg_sleep(1000) $_[1]");
		wait_running($mon, 'tenants', 1);
		$mon->ok("SELECT pg_terminate_backend($_[0]{pid})");
		$_[0]->result;
	},
	'termination while waiting' => sub {
		$_[2]->send("SELECT pg_sleep(1000) $_[1]");
		wait_running($mon, 'tenants', 1);
		$_[0]->send("SELECT 1 $_[1]");
		wait_waiting($mon, 'tenants', 1);
		$mon->ok("SELECT pg_terminate_backend($_[0]{pid})");
		$_[0]->result;
		$_[2]->cancel;
		$_[2]->result;
	},
	'client gone' => sub { $_[0]->query("BEGIN; SELECT 1 $_[1]"); $_[0]->vanish },
	refusal => sub {
		admin(q{alter_bulkhead('tenants', max_running => 0, max_waiting => 0)});
		$_[0]->query("SELECT 1 $_[1]");
		admin(q{alter_bulkhead('tenants', max_running => 1, max_waiting => 5)});
	},
	'savepoint' => sub { $_[0]->query("BEGIN; SAVEPOINT s; SELECT 1 $_[1]; ROLLBACK TO s; COMMIT") },
	'prepared transaction' => sub {
		$_[0]->query("BEGIN; SELECT 1 $_[1]; PREPARE TRANSACTION 'x'");
		$mon->ok("COMMIT PREPARED 'x'");
	});
admin(q{alter_bulkhead('tenants', max_waiting => 5)});
for my $way (sort keys %ways)
{
	# as many as there are compartments: a pin that is lost makes room scarce
	for (1 .. 4)
	{
		my $one = connect_to($node, user => 'app');
		my $two = connect_to($node, user => 'app');

		$round++;
		$ways{$way}->($one, "/*tenant='way$round'*/", $two);
		$two->close;
	}
	wait_for_value($mon, q{SELECT count(*) FROM resilience.activity WHERE usename = 'app'}, scalar @clients);
}
my $before = $mon->value(q{SELECT no_compartment_total FROM resilience.bulkheads});
held($clients[$_], "end$_") for 0 .. 3;
is(rows(), 'end0 1/0, end1 1/0, end2 1/0, end3 1/0', 'nothing is left pinned by any way out');
is($mon->value(q{SELECT no_compartment_total FROM resilience.bulkheads}), $before, 'all found one');

# a bulkhead that goes, while its compartments are in use
hold($clients[4], 'end0');
wait_waiting($mon, 'tenants', 1);
admin(q{drop_bulkhead('tenants')});
like($clients[4]->read_until('sE')->{types}, qr/s$/, 'who waits runs when the bulkhead is dropped');
admin(q{create_bulkhead('tenants', tag => 'tenant', max_running => 1)});
is(rows(), 'none', 'a new one of that name has other compartments');
done($_) for @clients[0 .. 4];
held($clients[0], 'end0');
is(rows(), 'end0 1/0', 'which take the place of the old ones');
error_is($clients[1]->query(q{SELECT 1 /*tenant='end0'*/}), $full, 'with their limits');
done($clients[0]);

# long and odd values
my $long = 'x' x 100;
held($clients[0], "${long}a");
like(held($clients[1], "${long}b"), qr/s$/, 'two long values that begin alike');
is($mon->value(q{SELECT count(*) FROM resilience.compartments WHERE running = 1 AND value = repeat('x', 35)}),
	2, 'have two compartments');
done($_) for @clients[0, 1];
$clients[0]->ok(q{SELECT 1 /*tenant='%ff%01%C3%A4'*/});
is($mon->value(q{SELECT count(*) FROM resilience.compartments WHERE value = '\xff\x01\xc3\xa4'}),
	1, 'what is no text is shown as bytes');
held($clients[0], '%ff%0a');
$result = $clients[1]->query(q{SELECT 1 /*tenant='%ff%0a'*/});
like($result->{error}{D}, qr/compartment="\\xff\\x0a"$/, 'in errors, too');
done($clients[0]);
$clients[0]->ok(q{SELECT 1 /*tenant=''*/});
is($mon->value(q{SELECT count(*) FROM resilience.compartments WHERE value = ''}), 1, 'an empty value is one');

# two bulkheads with the same tag, other tags
admin(q{create_bulkhead('wider', tag => 'tenant', max_running => 2)});
admin(q{create_bulkhead('route', tag => 'route', max_running => 1)});
$clients[0]->ok(q{BEGIN; SELECT 1 /*tenant='a',route='a'*/});
is($mon->value(q{SELECT string_agg(bulkhead || ' ' || value, ', ' ORDER BY bulkhead) FROM resilience.compartments WHERE running = 1}),
	'route a, tenants a, wider a', 'one in each bulkhead');
$clients[0]->ok('COMMIT');
admin(q{drop_bulkhead('wider')});
admin(q{drop_bulkhead('route')});

$mon->ok('SELECT resilience.reset_statistics()');
is($mon->value('SELECT sum(admitted_total + refused_statements_total) FROM resilience.compartments'), 0,
	'reset_statistics()');

all_zero($mon, 'at the end');
is(count_slots($node, $mon, 3, options => '-c application_name=x'), 4, 'without tags there is no limit');
$node->stop;
done_testing();
