# The snapshot file has more than there is room for, or more than the tables
# have: what fits is in force from the first connection, what the tables do not
# have goes, and the room that it leaves is for what was left out, of whichever
# database.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my @n = map { sprintf '%02d', $_ } 1 .. 20;
my $node = preloaded_node('snapshot_room', roles => ['app', map { "r$_" } @n],
	conf => "resilience.max_bulkheads = 21\n");
my $mon = monitor($node);
my $file = $node->data_dir . '/resilience.snapshot';

# "b01" lets role r01 have no connection at all, to any database, and so on
sub create
{
	my ($session, @numbers) = @_;

	$session->ok(join(';', map { "SELECT resilience.create_bulkhead('b$_', role_name => 'r$_', database_name => '*', max_connections => 0)" } @numbers));
	return;
}

# Of which roles are connections refused?  While the server starts it answers
# nobody.
sub locked_out
{
	return join(' ', grep {
		my $role = "r$_";
		my $error;

		wait_until('the server answers', sub {
			my $session = eval { ResilienceTest::Client->new($node, user => $role) } or return 0;
			$error = $session->{error};
			$session->close if !$error;
			return !$error || $error->{C} !~ /^57P/;
		});
		$error && $error->{C} eq '53300';
	} @n);
}

sub content_of { return slurp_file($file) }

# Stop without a checkpoint; change settings, and the file; start.  Returns what
# the log says from then on.
sub start_again
{
	my ($conf, $content) = @_;
	my $log = -s $node->logfile;

	$mon->close;
	$node->stop('immediate');
	$node->append_conf('postgresql.conf', $conf);
	if (defined $content)
	{
		open(my $out, '>:raw', $file) or die $!;
		print $out $content;
		close $out;
	}
	$node->start;
	return $log;
}

# More of each than there will be room for; the first in the file is the first
# that was made
$mon->ok(q{SELECT resilience.create_bulkhead('running', role_name => 'app', max_running => 2, max_waiting => 0)});
create($mon, @n);
$mon->ok(q{SELECT resilience.create_breaker('k' || i) FROM generate_series(1, 20) i});
$mon->ok(q{SELECT resilience.create_feature('f' || i, enabled => false) FROM generate_series(1, 20) i});
$mon->ok(q{SELECT resilience.create_runaway_rule('rule' || i, role_name => 'app', max_duration => CASE i WHEN 1 THEN '50 ms' ELSE '1 h' END::interval,
	action => 'cancel') FROM generate_series(1, 10) i});
is(locked_out(), "@n", 'with room for all of them, all are in force');
my $all = content_of();

my $log = start_again(<<'EOF2');
resilience.max_bulkheads = 6
resilience.max_breakers = 5
resilience.max_features = 5
resilience.max_runaway_rules = 5
EOF2
is(locked_out(), "@n[0 .. 4]", 'with less room, as many as fit are in force from the first connection');
my $said = slurp_file($node->logfile, $log);
for my $kind (['bulkhead', 'b06', 15, 'max_bulkheads'], ['circuit breaker', 'k6', 15, 'max_breakers'],
	['feature', 'f6', 15, 'max_features'], ['runaway rule', 'rule6', 5, 'max_runaway_rules'])
{
	my ($what, $name, $left_out, $setting) = @$kind;

	like($said, qr/LOG:  \Q$what\E "$name" is not in force: no room in shared memory\n.*?DETAIL:  limit=\d left_out=$left_out\n.*?HINT:  Drop some, or raise "resilience\.$setting".*ready to accept connections/s,
		"the log says so before the server lets anybody in: $what");
}

$mon = monitor($node);
my $app = connect_to($node, user => 'app');
error_is($app->query('SELECT pg_sleep(30)'), '57014', 'the runaway rule that fits is in force');
is($mon->value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM generate_series(1, 20) i WHERE NOT resilience.feature_enabled('f' || i)}),
	'1 2 3 4 5', 'so are the features');
$app->close;
$mon->ok(q{SELECT resilience.drop_runaway_rule('rule1')});
is(count_slots($node, $mon, 5), 2, 'and the bulkhead has its two slots');
all_zero($mon, 'with less room');

# Whoever drops one makes room for the next
$mon->ok(q{SELECT resilience.drop_bulkhead('b03')});
is(locked_out(), join(' ', @n[0, 1, 3, 4, 5]), 'the room of one that is dropped is for the next one');
start_again('');
is(locked_out(), join(' ', @n[0, 1, 3, 4, 5]), 'and so it is after another start');
$mon = monitor($node);

# The file is from before most of them were dropped: there is no room for those
# that the tables have, until the others are gone
$mon->ok('SELECT ' . join(', ', map { "resilience.drop_bulkhead('b$_')" } @n[0, 1, 3 .. 17]));
is(locked_out(), "@n[18, 19]", 'the last two are in force');
start_again('', $all);
$mon = monitor($node);
wait_until('the tables win', sub { locked_out() eq "@n[18, 19]" }, 20);
pass('of a file with too much just those are in force that the tables have');
is(count_slots($node, $mon, 5), 2, 'slots are those of the tables');

# The same where the file has those of one database, and the tables of another
# one have theirs, in both directions: whichever is looked at first
$mon->ok('CREATE DATABASE other');
my $other = monitor($node, dbname => 'other');
$other->ok('CREATE EXTENSION resilience');
$mon->ok("SELECT resilience.drop_bulkhead('b19'), resilience.drop_bulkhead('b20'), resilience.drop_bulkhead('running')");
for my $to ('other', 'postgres')
{
	my ($had, $has) = $to eq 'other' ? ($mon, $other) : ($other, $mon);

	create($had, @n[0 .. 5]);
	my $old = content_of();
	$had->ok('SELECT ' . join(', ', map { "resilience.drop_bulkhead('b$_')" } @n[0 .. 5]));
	create($has, @n[6 .. 11]);
	is(locked_out(), "@n[6 .. 11]", "database $to has taken the room");
	$other->close;
	start_again('', $old);
	$mon = monitor($node);
	wait_until('the tables win', sub { locked_out() eq "@n[6 .. 11]" }, 20);
	pass("what the file has left is given to $to");
	$other = monitor($node, dbname => 'other');
	($to eq 'other' ? $other : $mon)->ok('SELECT ' . join(', ', map { "resilience.drop_bulkhead('b$_')" } @n[6 .. 11]));
}
$mon->ok(q{SELECT resilience.create_bulkhead('running', role_name => 'app', max_running => 2, max_waiting => 0)});

# ... and so is what somebody drops
create($mon, @n[0 .. 4]);
$other->close;
start_again("resilience.max_bulkheads = 9\n");
$mon = monitor($node);
$other = monitor($node, dbname => 'other');
create($other, @n[5 .. 7]);
is(locked_out(), "@n[0 .. 7]", 'two databases fill the room');
$other->close;
start_again("resilience.max_bulkheads = 6\n");
$mon = monitor($node);
is(locked_out(), "@n[0 .. 4]", 'with less, those of the other one are left out');
$mon->ok(q{SELECT resilience.drop_bulkhead('b01'), resilience.drop_bulkhead('b02')});
wait_until('the other database has the room', sub { locked_out() eq "@n[2 .. 6]" }, 20);
pass('what is dropped in one database makes room for another one');
$other = monitor($node, dbname => 'other');
$other->ok(q{SELECT resilience.drop_bulkhead('b06')});
is(locked_out(), "@n[2 .. 4, 6, 7]", 'and within the other one as well');
is(count_slots($node, $mon, 5), 2, 'the slots are right');
$other->close;
all_zero($mon, 'at the end');
$mon->close;
$node->stop;

done_testing();
