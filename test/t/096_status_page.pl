# The status page as a person sees it, in a real browser: what it shows, that
# it refreshes itself, on a phone and without scripts, and what it does when
# nobody answers any more.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Browser;
use HttpTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

plan skip_all => 'built without libmicrohttpd' unless have_endpoint();
plan skip_all => 'no Chromium here' unless Browser::program();

my $port = free_port();
my $at = "127.0.0.1:$port";
my $node = preloaded_node('page', conf => "resilience.http_listen = '$at'\nresilience.max_running = 8\n");
limit_seconds(300);
my $mon = monitor($node);
my $long = 'n' x 63;
$mon->ok(q{SELECT resilience.create_bulkhead('reports', role_name => 'app', max_running => 2, max_waiting => 5);
	SELECT resilience.create_bulkhead('<script>document.title = 1</script>', max_connections => 50);
	SELECT resilience.create_breaker('billing');
	SELECT resilience.create_feature('suggestions', breaker => 'billing');
	SELECT resilience.create_health_check('wrong', query => 'SELECT false', failure_threshold => 1,
		check_interval => '1 s', timeout => '900 ms')});
$mon->ok("SELECT resilience.create_bulkhead('$long', max_running => 3)");
wait_status($at, '/', 200);
wait_until('the check has failed', sub { (component_of($at, 'health_check', 'wrong') // {})->{status} // '' ne 'unknown' });

my $browser = Browser->new;
$browser->screen(1000, 800);
$browser->open_page("http://$at/");

sub text { return $browser->value('document.querySelector("main").innerText') }
sub page_until
{
	my ($what, $pattern) = @_;

	wait_until($what, sub { text() =~ $pattern }, 30);
	return pass($what);
}

# What it shows
my $text = text();
like($text, qr/\Q$_\E/, "there is \"$_\"") for ('reports', 'billing', 'suggestions', 'wrong', '<script>document.title = 1</script>', 'Newest events');
is($browser->value('document.querySelectorAll("main script").length'), 0, 'a name is no script');
wait_until('there are curves after a second', sub { $browser->value('document.querySelectorAll("svg.curve").length') >= 4 });
pass('curves');
cmp_ok($browser->value('document.querySelectorAll("svg.bar").length'), '>=', 2, 'bars');
like($browser->value('document.title'), qr/^(degraded|healthy): page$/, 'the title');
is($browser->value('document.querySelectorAll("th:not([scope])").length'), 0, 'all heads of tables say what for');
is($browser->value('[...document.querySelectorAll(".badge")].filter(b => !b.innerText.match(/[a-z]/)).length'), 0,
	'no colour without a word');

# It refreshes by itself
$mon->ok(q{SELECT resilience.force_breaker('billing', 'open')});
page_until('a breaker that opens is seen without a reload', qr/billing.*open by force_breaker/s);
$mon->ok(q{SELECT resilience.create_bulkhead('new one', max_running => 7)});
page_until('so is a new bulkhead', qr/new one/);
my @sessions = map { connect_to($node, user => 'app') } 1 .. 3;
$_->send('SELECT pg_sleep(1000)') for @sessions;
page_until('and who runs and waits', qr/reports.*2 of 2\s+1\s/s);
$_->cancel, $_->result, $_->close for @sessions;
is($browser->value('document.getElementById("live").textContent'), 'Refreshed each second.', 'it says that it does');
is(join("\n", $browser->complaints), '', 'the browser has nothing to complain of');

# Nothing from elsewhere: what was fetched came from the page's own server
is($browser->value(q{performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length}),
	0, 'nothing comes from elsewhere');

# On a phone, in both colours
for my $dark (0, 1)
{
	my $colours = $dark ? 'dark' : 'light';

	$browser->screen(360, 740, phone => 1, dark => $dark);
	$browser->open_page("http://$at/");
	is($browser->value('document.documentElement.scrollWidth'), 360, "360 pixels are enough ($colours)");
	is($browser->value('[...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > 360.5 && !e.closest(".hidden")).length'),
		0, 'nothing is cut off');
	my $picture = PostgreSQL::Test::Utils::tempdir() . "/$colours.png";
	$browser->picture($picture);
	cmp_ok(-s $picture, '>', 10_000, 'a picture of it');
	my $background = $browser->value('getComputedStyle(document.body).backgroundColor');
	my ($red) = $background =~ /rgb\((\d+)/;
	ok($dark ? $red < 60 : $red > 200, "it is $colours");
}

# Without scripts
$browser->screen(1000, 800, script => 0);
$browser->open_page("http://$at/");
my $tree = $browser->call('DOM.getDocument', depth => -1);
my $html = $browser->call('DOM.getOuterHTML', nodeId => $tree->{root}{nodeId})->{outerHTML};
like($html, qr/<th scope="row">reports<small>/, 'a table without scripts, too');
like($html, qr/Reload the page for newer figures/, 'which says how to get newer figures');

# Nobody answers any more
$browser->screen(1000, 800);
$browser->open_page("http://$at/");
$node->stop;
wait_until('the page notices', sub { $browser->value('document.body.className') eq 'stale' }, 30);
like($browser->value('document.getElementById("live").textContent'), qr/^No answer since/, 'and says that its figures are old');
$node->start;
wait_until('and that it is there again', sub { $browser->value('document.body.className') eq '' }, 30);
pass('it recovers');

$browser->quit;
$node->stop;
done_testing();
