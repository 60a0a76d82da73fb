# The tag that lowers a statement's priority.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('prioritytag', roles => [qw(app lowly)]);
my $mon = monitor($node);
my $app = connect_to($node, user => 'app');
my $shed = '53R02';
my $ok = 'no error';

$mon->ok('ALTER ROLE lowly SET resilience.priority = low');
my $lowly = connect_to($node, user => 'lowly');

sub is_priority
{
	my ($client, $tag, $expected, $label) = @_;

	$client->ok("BEGIN; SELECT 1 $tag");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($mon->value("SELECT priority FROM resilience.activity WHERE pid = $client->{pid}"),
		$expected, $label);
	return $client->ok('COMMIT');
}

# with nothing configured nothing is looked for
is_priority($app, "/*priority='low'*/", 'normal', 'no limit, no look');

# each of the three reasons to look
set_conf($mon, 'resilience.max_running' => 50);
is_priority($app, "/*priority='low'*/", 'low', 'with a server-wide limit');
set_conf($mon, 'resilience.max_running' => undef);
is_priority($app, "/*priority='low'*/", 'normal', 'not without');
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 5)});
is_priority($app, "/*priority='low'*/", 'low', 'with a bulkhead of the session');
is_priority($lowly, "/*priority='high'*/", 'low', 'which does not concern another');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
set_conf($mon, 'resilience.minimum_priority' => 'normal');
error_is($app->query('SELECT 1'), $ok, 'without the tag');
error_is($app->query(q{SELECT 1 /*priority='low'*/}), $shed, 'shed by the tag');
error_is($app->query(q{SELECT 1 /*a='b', priority='LOW'*/}), $shed, 'in any case');
error_is($app->query(q{SELECT 1 /*priority='lowest'*/}), $ok, 'unknown words are ignored');
error_is($app->query(q{SELECT 1 /*priority=low*/}), $ok, 'what is no tag, too');
error_is($lowly->query(q{SELECT 1 /*priority='critical'*/}), $shed, 'never raised');
set_conf($mon, 'resilience.minimum_priority' => undef, 'resilience.max_running' => 50);
is_priority($app, "/*priority='high'*/", 'normal', 'never raised');
$app->ok('SET resilience.requested_priority = low');
is_priority($app, "/*priority='normal'*/", 'low', 'the lower of all counts');
$app->ok('RESET resilience.requested_priority');

# of the transaction's first statement
$app->ok(q{BEGIN; SELECT 1; SELECT 2 /*priority='low'*/});
is($mon->value("SELECT priority FROM resilience.activity WHERE pid = $app->{pid}"),
	'normal', 'later statements change nothing');
$app->ok('COMMIT');
is_priority($app, '', 'normal', 'it is not remembered');

# together with a bulkhead by tag
$mon->ok(q{SELECT resilience.create_bulkhead('t', tag => 'tenant=acme', max_running => 5)});
is_priority($app, "/*tenant='acme',priority='low'*/", 'low', 'beside another tag');
is_priority($app, "/*tenant='acme'*/", 'normal', 'which does not mean anything');
$mon->ok(q{SELECT resilience.drop_bulkhead('t')});

# the setting
set_conf($mon, 'resilience.priority_tag' => 'importance');
is_priority($app, "/*importance='low'*/", 'low', 'another key');
is_priority($app, "/*priority='low'*/", 'normal', 'and no longer the first');
set_conf($mon, 'resilience.priority_tag' => '');
is_priority($app, "/*importance='low',priority='low'*/", 'normal', 'none');
like($mon->query(q{ALTER SYSTEM SET resilience.priority_tag = '} . ('x' x 64) . q{'})->{error}{M} // '',
	qr/invalid value/, 'too long a key');

all_zero($mon, 'at the end');
$node->stop;
done_testing();
