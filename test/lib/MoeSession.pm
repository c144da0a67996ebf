# One session that stays connected, for what two sessions do to each other.
#
#   my $session = $server->session;
#   $session->query('BEGIN; DROP MODEL m');         # wait for the answer
#   $session->send('SELECT * FROM m');              # do not wait
#   ok($session->is_waiting, 'it waits for a lock');
#   my ($out, $err) = $session->answer;             # of what was sent
package MoeSession;
use strict;
use warnings;
use IPC::Run qw(start pump finish timer);
use Time::HiRes qw(sleep time);

my $limit = 60; # seconds for one answer

sub new
{
    my ($class, $server, @arguments) = @_;
    my $self = bless { server => $server, in => '', out => '', err => '', count => 0 }, $class;
    $self->{timer} = timer($limit);
    $self->{psql} = start([ 'test/server', 'psql', $server->{name}, '-qAt', '-f', '-', @arguments ],
        \$self->{in}, \$self->{out}, \$self->{err}, $self->{timer});
    $self->{pid} = $self->query('SELECT pg_backend_pid()');
    return $self;
}

sub send
{
    my ($self, $sql) = @_;
    my $mark = 'answer ' . ++$self->{count};
    $self->{timer}->start($limit);
    $self->{in} .= "$sql;\n\\echo $mark\n\\warn $mark\n";
    $self->{psql}->pump_nb;
    return;
}

# Output and errors of what was sent last; waits for them. A server that went away is an answer too.
sub answer
{
    my ($self) = @_;
    my $mark = "answer $self->{count}\n";
    eval {
        $self->{psql}->pump until ($self->{out} =~ /^\Q$mark\E/m && $self->{err} =~ /\Q$mark\E/) || !$self->{psql}->pumpable;
        1;
    } or $self->{err} .= $@;
    my ($out, $err) = @$self{qw(out err)};
    @$self{qw(out err)} = ('', '');
    s/\Q$mark\E// for $out, $err;
    chomp($out, $err);
    return ($out, $err);
}

sub query
{
    my ($self, $sql) = @_;
    $self->send($sql);
    my ($out, $err) = $self->answer;
    die "query failed: $sql\n$err" if $err =~ /ERROR|FATAL/;
    return $out;
}

# Does the server say that what was sent waits for a lock? Looks for up to five seconds.
sub is_waiting
{
    my ($self) = @_;
    return $self->is_in("wait_event_type = 'Lock'");
}

# Does pg_stat_activity come to say so of this session within five seconds?
sub is_in
{
    my ($self, $condition) = @_;
    my $until = time + 5;
    while (time < $until)
    {
        return 1 if $self->{server}->query("SELECT $condition FROM pg_stat_activity WHERE pid = $self->{pid}") eq 't';
        sleep 0.05;
    }
    return 0;
}

sub DESTROY
{
    my ($self) = @_;
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT'; # what it is made of may be gone before it
    local ($?, $@);
    $self->{in} = '';
    eval { $self->{psql}->kill_kill; };
    return;
}

1;
