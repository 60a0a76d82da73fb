# Every SQL block of the documentation is run, every link leads somewhere, and
# what is shown of the configuration file is something that the server takes.
#
# A block that must fail says so before it, in a comment that no reader sees:
# <!-- expect: 53R01 -->.  One that cannot be run here says why:
# <!-- not run: needs a second session -->.  A block within a comment is run
# as well: what users do in the meantime.  A block of "text" that follows one
# of SQL is the end of what psql shows; "..." stands for anything.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Basename qw(basename dirname);
use File::Temp qw(tempdir);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my @files = ("$root/README.md", sort glob "$root/docs/*.md");

# Blocks of a file: language, first line, text, and what stands before it.
sub blocks
{
	my ($file) = @_;
	my (@blocks, $block);
	my $comment = '';
	my $number = 0;
	my $follows = 0;

	for my $line (split /\n/, slurp_file($file))
	{
		$number++;
		if ($block)
		{
			if ($line =~ /^\s*```\s*$/)
			{
				$blocks[-1]{shown} = $block if $block->{language} eq 'text' && $block->{follows};
				push @blocks, $block;
				undef $block;
				$comment = '';
				$follows = 1;
			}
			else
			{
				$line =~ s/^$block->{indent}//;
				$block->{text} .= "$line\n";
			}
		}
		elsif ($line =~ /^(\s*)```(\w*)/)
		{
			$block = { indent => $1, language => $2, line => $number + 1, text => '', comment => $comment,
				follows => $follows && @blocks && $blocks[-1]{language} eq 'sql' };
		}
		elsif ($line =~ /^<!--\s*(.*?)\s*-->$/) { $comment = $1 }
		elsif ($line =~ /\S/) { $comment = ''; $follows = 0 }
	}
	return @blocks;
}

my %blocks = map { $_ => [ blocks($_) ] } @files;

# links
for my $file (@files)
{
	my $text = slurp_file($file);

	$text =~ s/```.*?```//gs;
	while ($text =~ /\]\(([^)\s]+)\)/g)
	{
		my $link = $1;

		next if $link =~ m{^https?://};
		my ($path, $anchor) = split /#/, $link, 2;
		my $target = $path eq '' ? $file : dirname($file) . "/$path";

		if (!-e $target) { fail(basename($file) . ": $link is there"); next }
		next unless $anchor;
		my $there = slurp_file($target);
		my %anchors = map { $_ => 1 } $there =~ /<a name="([^"]+)">/g;
		while ($there =~ /^#+ (.*)$/mg)
		{
			my $slug = lc $1;

			$slug =~ s/[^a-z0-9 _-]//g;
			$slug =~ s/ /-/g;
			$anchors{$slug} = 1;
		}
		ok($anchors{$anchor}, basename($file) . ": $link leads somewhere") unless $anchors{$anchor};
	}
}
pass('links were looked at');

my $node = preloaded_node('documentation',
	conf => qq(
max_connections = 60
max_worker_processes = 20
track_activity_query_size = 4096
compute_query_id = on
shared_preload_libraries = 'resilience, pg_stat_statements'
log_min_messages = error
), extension => 0, init => [ extra => [ '--encoding=UTF8', '--locale=C' ] ], roles => ['app']);
limit_seconds(150);
$node->safe_psql('postgres', q(
CREATE ROLE checkout LOGIN; CREATE ROLE browsing LOGIN; CREATE ROLE batch LOGIN; CREATE ROLE reporting LOGIN;
CREATE DATABASE remote;));
$node->safe_psql('remote', 'CREATE TABLE price (item int, price numeric); INSERT INTO price SELECT i, i FROM generate_series(1, 10) i');

my $dir = tempdir(CLEANUP => 1);

# What a document shows is the end of what there was.
sub is_shown
{
	my ($shown, $out, $err, $name) = @_;

	$err =~ s/^psql:\S+: //mg;
	$err =~ s/^(ERROR|FATAL|WARNING|NOTICE):  \w{5}: /$1:  /mg;
	$err =~ s/^LOCATION:.*\n//mg;
	for ($shown, $out, $err) { s/[ \t]+$//mg; s/\s+\z// }
	my $pattern = join '.*', map { quotemeta } split /\.\.\./, $shown;
	my $there = $out =~ /(?:\A|\n)\s*$pattern\z/s || $err =~ /(?:\A|\n)\s*$pattern\z/s;

	ok($there, "$name is what psql shows") or diag "shown:\n$shown\nthere:\n$out\n$err";
	return;
}

# The settings are in force: a new session has what the postmaster has read,
# and the launcher, which publishes them, has looked twice since.
my $loaded = '';

sub reloaded
{
	wait_until('the configuration is read', sub {
		my $now = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
		my $done = $now ne $loaded;

		$loaded = $now;
		return $done;
	});
	$node->safe_psql('postgres', 'SELECT pg_sleep(0.25)');
	return;
}

sub run_sql
{
	my ($database, $sql) = @_;
	my ($out, $err) = ('', '');

	open my $to, '>', "$dir/block.sql" or die;
	print $to $sql;
	close $to;
	IPC::Run::run([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose',
			'-v', 'host=' . $node->host, '-v', 'port=' . $node->port, '-v', 'superuser=' . $ResilienceTest::superuser, '-d', $node->connstr($database),
			'-f', "$dir/block.sql" ], '<', '/dev/null', '>', \$out, '2>', \$err, IPC::Run::timeout(60));
	my $status = $? >> 8;

	# what a reader does not notice: the launcher reads the settings, too
	reloaded() if $sql =~ /pg_reload_conf/;
	return ($status, $out, $err);
}

my $not_run = 0;
my $run = 0;
my $shown = 0;
for my $file (@files)
{
	my $database = 'doc_' . lc(basename($file, '.md'));
	my @sql = grep { $_->{language} eq 'sql' } @{ $blocks{$file} };

	next unless @sql;
	$database =~ s/\W/_/g;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	my $assumed = slurp_file("$root/test/docs/preamble.sql");
	# who reads the README has no extension yet
	$assumed =~ s/^CREATE EXTENSION resilience;$//m if $file eq $files[0];
	my ($rc, undef, $preamble) = run_sql($database, $assumed);
	is($rc, 0, "$database is prepared") or diag $preamble;
	for my $block (@sql)
	{
		my $name = basename($file) . " line $block->{line}";

		if ($block->{comment} =~ /^not run: (.+)/) { $not_run++; note "$name is not run: $1"; next }
		$run++;
		my ($status, $out, $err) = run_sql($database, $block->{text});
		if ($block->{comment} =~ /^expect: (\w{5})/)
		{
			like($err, qr/ERROR:  $1:/, "$name fails with $1") or diag $out, $err;
		}
		else
		{
			is($status, 0, "$name runs") or diag $err;
		}
		if ($block->{shown})
		{
			is_shown($block->{shown}{text}, $out, $err, basename($file) . " line $block->{shown}{line}");
			$shown++;
		}
	}
	# what a document has changed is not the next one's
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	reloaded();
	$node->safe_psql($database, 'DROP EXTENSION resilience CASCADE');
}
note "$run blocks were run, $not_run were not, $shown outputs compared";
cmp_ok($run, '>', 50, 'there are blocks');
cmp_ok($not_run, '<=', 8, 'few are not run');

# what is shown of postgresql.conf: a server that is started with it
$node->stop('fast');
for my $file (@files)
{
	for my $block (grep { $_->{language} eq 'conf' } @{ $blocks{$file} })
	{
		my ($out, $err) = ('', '');

		open my $to, '>', $node->data_dir . '/doc.conf' or die;
		print $to "shared_preload_libraries = 'resilience'\n", $block->{text};
		close $to;
		IPC::Run::run([ 'postgres', '--single', '-c', 'config_file=' . $node->data_dir . '/doc.conf',
				'-D', $node->data_dir, 'postgres' ], '<', \"SHOW resilience.mode\n", '>', \$out, '2>', \$err, IPC::Run::timeout(60));
		my $name = basename($file) . " line $block->{line}";
		like($out, qr/resilience.mode = "/, "$name: a server starts with it") or diag $err;
		unlike($err, qr/WARNING|ERROR|FATAL/, "$name: and has nothing to say");
	}
	for my $block (grep { $_->{language} =~ /^(sh|bash)$/ } @{ $blocks{$file} })
	{
		my $err = '';

		IPC::Run::run([ 'bash', '-n' ], '<', \$block->{text}, '2>', \$err);
		is($err, '', basename($file) . " line $block->{line} is shell");
	}
}

done_testing();
