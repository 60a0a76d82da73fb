# A headless Chromium for the tests of the status page, by the DevTools protocol
# over a pair of pipes: no port, no driver, and any size of a screen.

package Browser;

use strict;
use warnings;

use Carp;
use Fcntl qw(F_GETFD F_SETFD FD_CLOEXEC);
use File::Temp qw(tempdir);
use IO::Select;
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use POSIX ();
use Time::HiRes qw(time sleep);

# Where it is; undef if there is none.
sub program
{
	for my $name (qw(chromium chromium-browser google-chrome))
	{
		for my $folder (split /:/, $ENV{PATH})
		{
			return "$folder/$name" if -x "$folder/$name";
		}
	}
	return;
}

sub new
{
	my ($class) = @_;
	my $self = bless { id => 0, buffer => '', home => tempdir(CLEANUP => 1), messages => [] }, $class;

	pipe(my $from_us, my $to_browser) or croak "pipe: $!";
	pipe(my $from_browser, my $to_us) or croak "pipe: $!";
	my $pid = fork() // croak "fork: $!";
	if ($pid == 0)
	{
		# it reads commands from 3 and answers at 4; both may be taken here
		my $in = POSIX::dup(fileno $from_us);
		my $out = POSIX::dup(fileno $to_us);
		($in, $out) = map { my $fd = $_; $fd = POSIX::dup($fd) while $fd < 10; $fd } $in, $out;
		POSIX::dup2($in, 3);
		POSIX::dup2($out, 4);
		$ENV{HOME} = $self->{home};
		open(STDOUT, '>', "$self->{home}/log");
		open(STDERR, '>&', \*STDOUT);
		POSIX::setpgid(0, 0);
		no warnings 'exec';
		exec(program(), qw(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage
			  --no-first-run --hide-scrollbars --remote-debugging-pipe),
			"--user-data-dir=$self->{home}/profile", 'about:blank');
		POSIX::_exit(127);
	}
	close $from_us;
	close $to_us;
	@$self{qw(pid in out)} = ($pid, $from_browser, $to_browser);

	my $targets = $self->call('Target.getTargets');
	my ($page) = grep { $_->{type} eq 'page' } @{ $targets->{targetInfos} };
	$page //= $self->call('Target.createTarget', url => 'about:blank');
	$self->{session} = $self->call('Target.attachToTarget', targetId => $page->{targetId}, flatten => JSON::PP::true)->{sessionId};
	$self->call($_) for qw(Page.enable Runtime.enable Log.enable);
	return $self;
}

sub receive
{
	my ($self, $seconds) = @_;
	my $end = time() + $seconds;

	while (index($self->{buffer}, "\0") < 0)
	{
		my $left = $end - time();
		return if $left <= 0 || !IO::Select->new($self->{in})->can_read($left);
		sysread($self->{in}, $self->{buffer}, 1 << 20, length $self->{buffer}) or croak 'the browser is gone';
	}
	my $message = substr($self->{buffer}, 0, index($self->{buffer}, "\0") + 1, '');
	chop $message;
	return JSON::PP->new->utf8->decode($message);
}

# Call a method of the protocol.  What the browser tells meanwhile is kept.
sub call
{
	my ($self, $method, %params) = @_;
	my $id = ++$self->{id};
	my %message = (id => $id, method => $method, params => \%params);

	$message{sessionId} = $self->{session} if $self->{session};
	my $text = JSON::PP->new->utf8->encode(\%message) . "\0";
	while (length $text)
	{
		my $n = syswrite($self->{out}, $text) // croak "the browser does not listen: $!";
		substr($text, 0, $n, '');
	}
	while (1)
	{
		my $answer = $self->receive(60) // croak "no answer to $method";
		if (!defined $answer->{id}) { push @{ $self->{messages} }, $answer; next }
		next if $answer->{id} != $id;
		croak "$method: $answer->{error}{message}" if $answer->{error};
		return $answer->{result};
	}
}

# width, height, dark => 1, phone => 1, script => 0
sub screen
{
	my ($self, $width, $height, %params) = @_;

	$self->call('Emulation.setDeviceMetricsOverride', width => $width, height => $height,
		deviceScaleFactor => 1, mobile => $params{phone} ? JSON::PP::true : JSON::PP::false);
	$self->call('Emulation.setEmulatedMedia',
		features => [{ name => 'prefers-color-scheme', value => $params{dark} ? 'dark' : 'light' }]);
	$self->call('Emulation.setScriptExecutionDisabled',
		value => ($params{script} // 1) ? JSON::PP::false : JSON::PP::true);
	return;
}

sub open_page
{
	my ($self, $url) = @_;
	my $end = time() + 60;

	$self->{messages} = [];
	$self->call('Page.navigate', url => $url);
	while (!grep { ($_->{method} // '') eq 'Page.loadEventFired' } @{ $self->{messages} })
	{
		croak "$url does not load" if time() > $end;
		push @{ $self->{messages} }, grep { $_ } $self->receive(1);
	}
	return;
}

# The value of an expression in the page.
sub value
{
	my ($self, $expression) = @_;
	my $result = $self->call('Runtime.evaluate', expression => $expression,
		returnByValue => JSON::PP::true, awaitPromise => JSON::PP::true);

	croak "$expression: $result->{exceptionDetails}{exception}{description}" if $result->{exceptionDetails};
	return $result->{result}{value};
}

# Errors and violations of the policy that the browser has complained of.
sub complaints
{
	my ($self) = @_;

	return map { $_->{params}{entry}{text} // $_->{params}{exceptionDetails}{text} }
	  grep { ($_->{method} // '') =~ /^(Log.entryAdded|Runtime.exceptionThrown)$/ } @{ $self->{messages} };
}

# The whole page as a PNG.
sub picture
{
	my ($self, $file) = @_;
	my $shot = $self->call('Page.captureScreenshot', format => 'png', captureBeyondViewport => JSON::PP::true);

	open(my $out, '>:raw', $file) or croak "$file: $!";
	print $out decode_base64($shot->{data});
	close $out;
	return;
}

sub quit
{
	my ($self) = @_;

	return unless $self->{pid};
	eval { local $SIG{PIPE} = 'IGNORE'; delete $self->{session}; $self->call('Browser.close') };
	for (1 .. 50)
	{
		last if waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid};
		sleep 0.1;
		kill 'KILL', -$self->{pid} if $_ == 49;
	}
	$self->{pid} = 0;
	return;
}

sub DESTROY { local ($?, $@); $_[0]->quit }

1;
