# The page of moe_ml.report in a browser: as wide as a telephone or a desk, in light and dark, nothing runs, nothing is fetched,
# no label is cut off or lies on another. And in databases of other encodings, the same characters.
#
# The browser's part is skipped where there is no Chromium; MOE_ML_CHROMIUM names one elsewhere.
use strict;
use warnings;
use File::Temp qw(tempdir);
use IPC::Run qw(run timeout);
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('report', log_min_messages => 'warning');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
# Long names, names with markup, a table that refers to itself, two keys to one table, three layers.
my $more = <<'SQL';
ALTER TABLE customers RENAME COLUMN kind TO "a rather long name for a column, <b>longer than any bar";
CREATE TABLE "couriers of the town, <script>document.title = 'ran'</script>" (courier_id int PRIMARY KEY, since timestamp, boss int REFERENCES "couriers of the town, <script>document.title = 'ran'</script>");
INSERT INTO "couriers of the town, <script>document.title = 'ran'</script>" SELECT i, '2020-01-01', NULLIF(i / 2, 0) FROM generate_series(1, 9) AS i;
ALTER TABLE orders ADD carried_by int REFERENCES "couriers of the town, <script>document.title = 'ran'</script>", ADD returned_by int REFERENCES "couriers of the town, <script>document.title = 'ran'</script>";
UPDATE orders SET carried_by = 1 + order_id % 9, returned_by = 1 + order_id % 4;
CREATE TABLE parcels (parcel_id int PRIMARY KEY, order_id int REFERENCES orders, weight float8, sent_at timestamp);
INSERT INTO parcels SELECT row_number() OVER (), order_id, amount * 1e7, placed_at FROM orders;
SQL
$server->query("$quiet CREATE EXTENSION moe_ml;\n" . shop_sql() . $more . model_sql('CREATE MODEL leaves', ensembles => 2, epochs => 3) . ";\n"
    . model_sql('CREATE MODEL weighs', query => 'PREDICT sum(parcels.weight, 0, 12, days) FOR EACH customers') . ";\n"
    . model_sql('CREATE MODEL home', query => 'PREDICT customers."a rather long name for a column, <b>longer than any bar" FOR EACH customers'));

# Databases of other encodings
for my $encoding ('LATIN1', 'SQL_ASCII')
{
    my @there = ('-d', lc $encoding);
    $server->query("CREATE DATABASE $encoding ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
    $server->query("$quiet SET client_encoding = '$encoding'; CREATE EXTENSION moe_ml;\n" . shop_sql() . "ALTER TABLE orders RENAME TO \"\xE9t\xE9\";\n"
        . model_sql('CREATE MODEL m', query => "PREDICT count(\"\xE9t\xE9\".*, 0, 12, days) = 0 FOR EACH customers"), @there);
    my $page = $server->query("SET client_encoding = '$encoding'; SELECT moe_ml.report('m')", @there);
    my $letter = $encoding eq 'LATIN1' ? '&#xE9;' : '&#xFFFD;'; # what it is, or what is not UTF-8
    like($page, qr/count\(&#x22;${letter}t$letter&#x22;/, "$encoding: a letter is a reference");
    unlike($page, qr/[^\n\x20-\x7e]/, "$encoding: the page is ASCII");
}

my ($browser) = grep { defined && -x } $ENV{MOE_ML_CHROMIUM}, map { my $name = $_; map { "$_/$name" } split /:/, $ENV{PATH} } qw(chromium chromium-browser google-chrome);
SKIP:
{
    skip('no Chromium to look at reports with: apt-get install chromium, or set MOE_ML_CHROMIUM', 1) unless $browser;

    my $folder = tempdir(CLEANUP => 1);
    my @drawings; # "model width drawings"
    for my $model (qw(leaves weighs home))
    {
        open my $file, '>', "$folder/$model.html" or die $!;
        my $page = $server->query("SELECT moe_ml.report('$model')");
        print $file $page;
        push @drawings, map { "$model $_ " . (() = $page =~ /<svg /g) } 390, 1200;
        close $file;
    }
    cmp_ok(scalar(grep { / ([89]|10)$/ } @drawings), '==', 6, 'pages are drawn'); # columns where any matters
    # Each page in a frame of each width, looked at from outside: its own policy forbids it scripts.
    open my $file, '>', "$folder/look.html" or die $!;
    print $file <<'HTML';
<!DOCTYPE html><html><body><script>
const found = [];
function look(page, model, width) {
    const say = text => found.push(model + ' at ' + width + ': ' + text);
    const style = page.defaultView.getComputedStyle(page.body);
    found.push(model + ' at ' + width + ' has ' + page.querySelectorAll('svg').length + ' drawings, background ' + style.backgroundColor);
    if (page.documentElement.scrollWidth > width) say('scrolls sideways');
    if (page.title === 'ran') say('a script ran');
    if (page.querySelector('script, img, link, iframe, object')) say('has more than text and drawings');
    for (const svg of page.querySelectorAll('svg')) {
        const frame = svg.getBoundingClientRect(), name = svg.getAttribute('aria-label');
        const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent);
        const boxes = texts.map(t => t.getBoundingClientRect());
        boxes.forEach((a, i) => {
            if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 2)
                say(name + ' cuts off ' + texts[i].textContent);
            boxes.slice(0, i).forEach((b, j) => {
                if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
                    say(name + ' has ' + texts[i].textContent + ' over ' + texts[j].textContent);
            });
        });
        for (const box of svg.querySelectorAll('rect.box')) {
            const right = box.getBoundingClientRect().right;
            for (const text of box.parentNode.querySelectorAll('text'))
                if (text.getBoundingClientRect().right > right) say(text.textContent + ' leaves its box');
        }
    }
}
const frames = [];
for (const model of ['leaves', 'weighs', 'home'])
    for (const width of [390, 1200]) {
        const frame = document.createElement('iframe');
        frame.style = 'border:0;height:6000px;width:' + width + 'px';
        frame.src = model + '.html';
        frames.push(new Promise(done => frame.onload = () => { look(frame.contentDocument, model, width); done(); }));
        document.body.append(frame);
    }
Promise.all(frames).then(() => { document.body.textContent = 'found\n' + found.join('\n') + '\nend'; });
</script></body></html>
HTML
    close $file;
    my %background;
    for my $scheme ('light', 'dark')
    {
        my ($out, $err) = ('', '');
        run([ $browser, qw(--headless=new --no-sandbox --disable-gpu --allow-file-access-from-files --disable-dev-shm-usage --hide-scrollbars),
              '--window-size=1300,6000',
              '--virtual-time-budget=20000', "--user-data-dir=$folder/profile", $scheme eq 'dark' ? ('--blink-settings=preferredColorScheme=0') : ('--blink-settings=preferredColorScheme=1'),
              '--dump-dom', "file://$folder/look.html" ], \undef, \$out, \$err, timeout(120));
        my ($found) = $out =~ /found\n(.*?)\nend/s;
        ok(defined $found, "$scheme: the browser shows the pages") or diag("$out\n$err"), next;
        my @lines = split /\n/, $found;
        my @seen = sort map { /^(\w+) at (\d+) has (\d+) drawings, background (.*)$/ ? "$1 $2 $3" : () } @lines;
        $background{$scheme} = join ' ', sort map { / background (.*)$/ ? $1 : () } @lines;
        is_deeply(\@seen, [ sort @drawings ], "$scheme: every drawing is there");
        is(join("\n", grep { !/ has \d+ drawings, / } @lines), '', "$scheme: nothing is cut off, overlaps, runs or is fetched");
    }
    isnt($background{light}, $background{dark}, 'dark is another colour');
}

done_testing();
