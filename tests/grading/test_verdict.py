"""Verdicts on answers, by table: (reference, what is right for it, what is wrong for it)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from replication.grading.normalize import normalize
from replication.grading.verdict import Verdict, decide, exact_verdict

DECIDED_BY_TEXT = [  # these never need sympy
    (
        "42",
        ["042", "+42", "42.", "42.0", "42,", "{42}", "$42$", r"\(42\)", r"\mathbf{42}", r"\text{42}"],
        ["24", "420", "4.2", "-42"],
    ),
    ("42", ["\n42\n", "42\\,", "４２", "٤٢", "{" * 20 + "42" + "}" * 20, r"\text{(42)}", "(42)"], ["43", "42.0001"]),
    ("42", [r"42 \text{ cm}", r"42\ \mathrm{cm}^{3}", r"42\text{ m}/\text{s}^2", r"42 \mathrm{~km} / \mathrm{h}"], []),
    ("42", [r"\$42", "€42", r"\pounds 42", r"42 \text{ dollars}", "42 cm", r"42^\circ", "42°", r"42\degree"], []),
    ("42", [r"\text{forty-two}", "forty-two", r"\text{The answer is }42", r"\text{The answer is 42 cm}"], []),
    ("73", ["073", "0073", "73.0", "73.", r"\text{(073)}"], ["730", "7.3", "73.01", "0.73", "7300"]),
    ("073", ["73", "73.0"], ["730", "0.73"]),
    ("0", ["-0", "000", "0.0", "-0.0", r"\text{zero}", r"0^\circ"], ["0.0000001", "1e-400", "1"]),
    ("3", ["3.0"], ["2.9999999", "3.0000001", r"2.\overline{3}"]),
    ("1", [r"0.\overline{9}", "one"], ["0.9999999999", "1.0000001"]),
    ("1000000", ["1,000,000", r"1\,000\,000", "1{,}000{,}000", "1 000 000", "1e6", "1e+6"], ["1000001"]),
    ("3000000", ["3e6", r"3\times10^{6}", r"3 \cdot 10^6", "3.0E6"], ["3e5", "3000000.5"]),
    ("9007199254740993", ["9007199254740993.0", "9,007,199,254,740,993"], ["9007199254740992", "9007199254740994"]),
    ("1" + "0" * 5000, ["1" + "0" * 5000, "01" + "0" * 5000], ["1" + "0" * 4999 + "1", "-1" + "0" * 5000]),
    ("50", [r"50\%", "50 percent", r"50\text{ percent}"], ["0.5", "5000"]),
    ("0.5", [r"50\%", "1/2", ".5", "0{,}5"], ["50", "5", r"5\%"]),
    (r"50\%", ["50", r"50\%", "50 percent", "0.5", "1/2", "0.50", r"x=0.5"], ["5000", "5", "0.005", r"0.5\%"]),
    (r"12.5\%", ["12.5", "0.125", r"\frac18"], ["1.25", "1250", r"0.125\%"]),
    ("2", [r"2\%"], [r"200\%", r"20\%"]),  # a whole number above 1 is no hundredth
    (r"200\%", ["200", "200.0"], ["2", "2.0"]),
    ("-0.25", [r"-25\%"], [r"25\%"]),
    (
        r"\frac{1}{3}",
        [r"\frac13", r"\frac{1}3", r"\frac1{3}", r"\dfrac{1}{3}", "1/3", "2/6", "⅓"],
        ["3", "-1/3", "1/30"],
    ),
    (
        r"\frac{1}{3}",
        ["0.333333", "0.3333333333", r"0.\overline{3}", r"0.\bar{3}", "0.(3)", r"33.3333\%"],
        ["0.33333", "0.33"],
    ),
    (r"\frac{2}{3}", ["0.666667", "0.66666667"], ["0.67", "0.6666", "0.666677"]),
    (r"\frac{7}{2}", ["3.5", "3 1/2", r"3\frac12", r"3 \frac{1}{2}", "3½"], ["31/2", "3.50001", r"\frac{2}{7}"]),
    (r"-\frac{7}{2}", ["-3.5", r"-3\frac{1}{2}", r"\frac{-7}{2}", "-3 1/2", "−3.5"], ["3.5", r"-\frac{-7}{2}", "-2.5"]),
    ("0.0000001", ["1e-7", "0.00000010"], ["0.0000002", "0", "2e-7"]),
    ("6.67e-11", [r"6.67\times 10^{-11}", "0.0000000000667"], ["6.68e-11", "6.67e-10", "0"]),
    ("1234.5", ["1,234.5", r"\$1,234.50"], ["12345", "1234.6"]),
    (
        "B",
        [r"\text{B}", "(B)", r"\text{(B)}", r"\textbf{(B)}\ 42", r"\text{B) } 42", r"\textbf{(B)} \text{ blue}"],
        ["\\textbf{(C)}\\ 42"],
    ),
    (r"\text{yes}", ["yes", "Yes", r"\textbf{YES}", r"\text{ Yes. }"], [r"\text{no}", r"\text{not yes}"]),
    (r"\text{live}", ["live"], [r"\text{evil}", r"\text{alive}"]),
    ("2", ["two", r"\text{Two}"], [r"\text{three}"]),
    (
        "27",
        [r"\textbf{(C) }27", "(C) 27", "C) 27", "C. 27", r"\underline{27}", r"\textcolor{red}{27}", "27\\\\"],
        ["(C) 28"],
    ),
    ("27", [r"27\,\frac{\text{km}}{\text{h}}", r"27 \frac{\mathrm{m}}{\mathrm{s}^2}"], []),
    ("no solution", [r"\text{No solution}"], []),
    (r"1010_2", [r"1010_{2}", r"1010_{\text{2}}"], ["1010_3", "1011_2"]),
]

DECIDED_BY_MATHEMATICS = [
    (r"\frac{3}{56}", [r"\frac{3}{56}\approx 0.0536"], [r"\frac{3}{56}\approx 0.06"]),
    ("6-5i", ["z=6-5i", "w_1 = -5i+6"], ["z=6+5i"]),
    (r"(\gamma^{2}-1)\sin ^{2} \theta", [r"(\gamma^2-1)\sin^2(\theta)"], [r"(\gamma^2-1)\sin^2(\gamma)"]),
    ("np.arcsin(10/13)", [r"\arcsin(10/13)", r"\sin^{-1}\left(\frac{10}{13}\right)"], [r"\arccos(10/13)"]),
    ("x_1", ["x₁"], ["x₂"]),
    (r"(-\infty,\infty)", [r"\mathbb R", r"\mathbb{R}", r"\text{all real numbers}"], [r"(0,\infty)"]),
    ("42", [r"\frac{84}{2}", r"6 \times 7", "x=42", "n = 42.", "42=42", "f(2)=42", r"\approx 42", r"2\cdot 21=42"], []),
    ("42", [], ["42=43", "43=42", "x=43=42", r"2\cdot 20=42", r"42 \neq 43", "42<43", "> 42", r"\ge 42", r"\neq 42"]),
    ("42", [], ["42 or 43", r"42 \text{ or } 43", "42, 43", r"\{42,43\}", r"42 \text{ and } 43", r"42 \pm 1"]),
    (
        "42",
        [],
        [r"\text{not } 42", r"42\text{ or so}", r"42\text{ million}", r"42\text{ is wrong}", r"\text{at least }42"],
    ),
    ("42", [], ["42!", "42x", "42i", "42^2", "4 2", r"\sqrt{42}", r"\frac{1}{42}", "NaN", "inf", r"\text{None}"]),
    ("5", [r"5\text{ apples}", r"\text{Total: }5\text{ apples}"], ["5m", "5d", r"5\text{ dozen}", r"5\text{ squared}"]),
    ("56", [], ["5 6", r"5\quad 6", r"5\ 6"]),
    ("5050", [r"\sum_{k=1}^{100} k"], [r"\sum_{k=1}^{99} k"]),
    ("1" + "0" * 5000, ["10^{5000}"], ["10^{4999}"]),
    ("100000000000000000001", [], ["10^{20}", "1e20"]),
    (r"\pi", [r"1.0\pi"], ["3.14", "3.14159", "3.14159265358979", r"\frac{22}{7}", "3", r"0.999999\pi"]),
    (
        r"\sqrt{2}",
        [r"\sqrt2", "√2", "2^{1/2}", "2^{0.5}", r"\frac{2}{\sqrt{2}}"],
        ["1.414", "1.41421356", r"-\sqrt{2}", "2"],
    ),
    ("1.41421", [r"\sqrt{2}"], [r"\sqrt{3}", "1.4142"]),
    (r"\sqrt{\frac{4}{9}}", ["0.666667", "2/3"], ["0.66667"]),  # rational, though not as written
    (r"\{\frac13,\pi\}", [r"0.333333,\pi"], ["0.333333,3.14159"]),
    (r"10^{-20}\pi", [r"\frac{\pi}{10^{20}}"], [r"2\cdot 10^{-20}\pi", "0"]),
    (r"\frac{\pi}{2}", [r"\frac\pi2", "π/2", r"0.5\pi"], [r"\pi", "1.57", "1.570796"]),
    (r"2^{100}", ["1267650600228229401496703205376", "4^{50}"], ["1267650600228229401496703205377"]),
    (r"\infty", [r"+\infty", "∞", "infinity"], [r"-\infty", r"\frac{1}{0}", "10^{100}"]),
    ("0", [], [r"\frac{0}{0}", r"\infty-\infty", r"10^{-400}", r"\emptyset", r"\text{False}", r"\text{undefined}"]),
    ("1", [], [r"\frac{1}{0}", r"1^\infty", r"\frac{\infty}{\infty}", r"\pm 1"]),
    ("(1,2)", ["(1, 2)", r"\left(1,2\right)", "(1.0,2)"], ["(2,1)", "[1,2]", "(1,2]", "12", "(1,2,3)"]),
    (r"(\frac13,3)", ["(1/3,3)", "(0.333333,3)", "(0.333333,3.0)"], ["(0.33,3)", "(0.333333,2.9999999)"]),
    ("(1,234)", ["(1, 234)"], ["1234", "(1,2,34)"]),
    ("1234", [], ["(1,234)", "1, 234"]),
    ("1,2", ["2, 1", r"\{1,2\}", "1 and 2", r"x=1 \text{ or } x=2", "x=1,2"], ["12", "1.2", "1", "1,2,3", "1,3"]),
    (r"\{1,2\}", [r"\{1,2,2\}", r"\{2,1\}"], [r"\{1\}", r"\{1,2,3\}", "3"]),
    ("-1,1", [r"\pm 1"], ["1"]),
    ("[0,1)", ["[0,1[", r"x \in [0,1)"], [r"0 \le x < 1", "(0,1)", "[0,1]", "]0,1["]),
    ("(0,1)", ["]0,1["], ["]0,1]", "[0,1]"]),
    (r"(-\infty,0)\cup(1,\infty)", [r"]-\infty,0[\cup]1,+\infty["], [r"(-\infty,0]\cup(1,\infty)", r"(1,\infty)"]),
    ("x<2", ["2>x", r"(-\infty,2)"], [r"x\le 2", "x>2", "y<2"]),
    (r"0 \le x < 1", ["[0,1)"], ["(0,1)", "[0,1]"]),
    (r"\frac12<x<1", ["0.5<x<1"], ["0.25<x<1"]),
    ("x=5", ["5", "x=5"], ["y=5", "x=6", "x=6=5", "6=5"]),
    ("y=2x+1", ["2x+1", "y-2x=1"], ["y=2x+2", "x"]),
    ("x^2+1", ["1+x^2", "x²+1", "x^{2}+1", "(x+1)^2-2x"], ["y^2+1", "x^2-1", "x^3+1"]),
    ("(x+1)^{200}", ["(1+x)^{200}"], ["(x+1)^{201}"]),
    ("2t", ["t+t"], ["2s", "2"]),
    ("2d", ["d+d"], ["2h", "2"]),
    (r"\frac{x}{3}", ["x/3"], ["0.33x"]),
    (r"\sin^2 x", [r"1-\cos^2 x"], [r"\cos^2 x"]),
    ("1+2i", ["2i+1"], ["1-2i", "3"]),
    ("-1", ["i^2", r"e^{i\pi}"], ["i", "i^4"]),
    (r"\frac{1}{1+i}", [r"\frac{1-i}{2}"], [r"\frac{1+i}{2}"]),
    ("27", [], ["(C)", r"(C)\cdot 27", "(C)+27"]),
    ("1,3,5", ["5, 3, 1", r"\{5,3,1\}", r"1 \text{ or } 3 \text{ or } 5"], ["1,3", "1,3,5,7"]),
    ("3", [r"\log_2 8", r"\log_{2}(8)"], [r"\log_2 9"]),
    (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        [r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"],
        [r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"],
    ),
    (
        r"\begin{pmatrix}1/2\\2\end{pmatrix}",
        [r"\begin{pmatrix}0.5\\2\end{pmatrix}"],
        [r"\begin{pmatrix}2\\0.5\end{pmatrix}"],
    ),
    (
        "B",
        ["b"],
        ["A", "A, B", "A, B, C, D", r"A \text{ or } B", r"\text{(B) or (C)}", r"\text{(B) 42 (C) 43}", "ABCD"],
    ),
    ("5", [], [r"\text{The answer is not }5", "The answer is not 5", "5 and 6"]),
]

DECIDED_BY_MATHEMATICS += [  # layout, units and flourishes go; words that change the number do not
    (
        "42",
        [r"\large 42", r"\Large\textbf{42}", r"{\Large 42}", r"\hspace{1cm}42", r"\rm 42", "42{}", r"\strut 42", "=42"],
        ["{-}42"],
    ),
    ("42", [r"\therefore 42", r"42\ \square", r"42\quad\checkmark", "forty two", "Forty-Two", r"42\label{a}"], []),
    (
        "42",
        [r"42\,\mathrm{km\,s^{-1}}", r"42\ \mathrm{W/m^2}", r"42\text{ cm²}", r"42\,\mu\text{m}", r"42\ \Omega"],
        [],
    ),
    (
        "42",
        [r"42\ \mathrm{K}"],
        [r"42\text{ hundredths}", r"42\text{ six}", r"42\text{ k}", r"42\text{ over two}", "42‰"],
    ),
    ("42", [], [r"42\text{, forty-three}", r"42\text{ point five}", r"42\mathrm{pi}", r"42\text{ x}", r"4200\%"]),
    ("42", [r"101010_2", "101010₂"], ["42_7", r"42_{(7)}", r"42_{\text{seven}}", "4₂", r"9_{2}"]),
    ("42", [], [r"42 \approx 43", "42=43=42", r"42\simeq 43", "42, \\ldots", "42==42"]),
    ("D", [r"\text{The answer is D}"], [r"\text{The answer is C}"]),
    ("10080", [r"10\thinspace080"], []),
    ("1", [r"100\%"], [r"1000\%"]),
]

DECIDED_BY_MATHEMATICS += [  # however small or large, numbers differ by what they are to each other
    (r"\frac{1}{2006!}", [r"\frac{1}{2006\cdot 2005!}"], [r"\frac{1}{2004!}", r"\frac{2}{2006!}", "0"]),
    (r"\frac{1}{2^{99}}", ["2^{-99}"], [r"\frac{1}{2^{98}}"]),
    ("e^{-1000}", [r"\frac{1}{e^{1000}}"], ["e^{-1001}", "0"]),
    ("10^{-60}", [r"\frac{1}{10^{60}}", "1e-60"], ["10^{-61}", r"1.00001\cdot 10^{-60}"]),
    (r"10^{-80}\sqrt{2}", [r"\frac{2}{10^{80}\sqrt{2}}"], [r"10^{-80}\sqrt{3}"]),
    (r"\sqrt{2}", [], [r"\sqrt{2}+10^{-60}", r"\sqrt{2}+e^{-300}"]),
    (r"\pi^{200}", [r"(\pi^{2})^{100}"], [r"\pi^{200}+1"]),
    (r"\frac{x}{2006!}", [r"\frac{2x}{2\cdot 2006!}"], [r"\frac{x}{2004!}"]),
    (r"\{e^{-200},1\}", [r"1,e^{-200}"], [r"\{e^{-201},1\}"]),
    ("(10^{-60},1)", [r"(\frac{1}{10^{60}},1)"], ["(10^{-61},1)"]),
    (r"\begin{pmatrix}e^{-200}\\1\end{pmatrix}", [], [r"\begin{pmatrix}e^{-201}\\1\end{pmatrix}"]),
    ("x<e^{-200}", ["e^{-200}>x"], ["x<e^{-201}"]),
]

DECIDED_BY_MATHEMATICS += [  # degrees: no factor by themselves, radians inside a function
    (r"2-\sqrt{3}", [r"\tan 15^\circ", r"\tan(15^{\circ})", r"\tan 15°", r"\tan 15\degree"], [r"\tan 15"]),
    (r"\tan 15^\circ", [r"2-\sqrt3", r"\tan\frac{\pi}{12}"], ["2", r"\tan 15"]),
    (
        r"\frac12",
        [
            r"\sin 30°",
            r"\cos{60^{\circ}}",
            r"\cos(30^\circ+30^\circ)",
            r"\cos(60)^\circ",
            r"\sin{30}^\circ",
            r"\sin\frac{60^\circ}{2}",
        ],
        [r"\sin 30"],
    ),
    (r"\frac14", [r"\sin^2 30^\circ", r"\cos^{2}\left(60^\circ\right)", r"\sin 30^\circ\cos 60^\circ"], []),
    (r"4\sin 80^\circ", [r"4\cos 10^\circ"], [r"4\sin 80"]),
    (r"15^\circ", ["15", "15.0", r"15\text{ degrees}"], [r"\frac{\pi}{12}", "0.261799"]),
    (r"\frac{\pi}{12}", [], [r"15^\circ", "15"]),
    (r"\sec 60^\circ", ["2", "2.0"], ["3"]),
    (r"30^\circ,150^\circ", ["30, 150", r"\{30,150\}", "30°, 150°"], ["30150"]),
    ("30150", ["30,150"], [r"30^\circ,150^\circ", "30, 150", "$30$,$150$", r"30\text{ cm},150\text{ cm}"]),
    ("(2,30^\\circ)", ["(2,30)"], [r"(2,\frac{\pi}{6})"]),
    (r"90^\circ-\alpha", [r"90-\alpha"], [r"90+\alpha"]),
    (r"20\%,300\%", ["20, 300", "0.2, 3"], ["20300", "2, 30"]),
    (r"33\frac13\%", [r"\frac13", "0.333333", r"33\frac13"], [r"\frac{1}{30}", "0.33"]),
    (r"5\sqrt{2}\%", [r"\frac{\sqrt{2}}{20}", r"5\sqrt{2}"], [r"\frac{\sqrt{2}}{2}"]),
]

DECIDED_BY_MATHEMATICS += [  # sums with a symbol for a bound, and sums over subscripts
    (
        r"F_n=\sum_{k=0}^{n-1}F_kF_{n-k-1}",
        [r"F_n=\sum_{k=0}^{n-1}F_{n-k-1}F_k", r"F_n=\sum_{j=0}^{n-1}F_jF_{n-j-1}"],
        [r"F_n=\sum_{k=0}^{n-2}F_kF_{n-k-2}", r"F_n=nF_kF_{n-k-1}"],
    ),
    (r"\sum_{i=1}^{n}a_i", [r"\sum_{j=1}^{n}a_j"], ["na_i", r"\sum_{i=1}^{n+1}a_i"]),
    (r"S_n=\sum_{k=1}^{n}k^2", [r"S_n=\frac{n(n+1)(2n+1)}{6}"], [r"S_n=\frac{n(n+1)(2n-1)}{6}"]),
    ("n!", [r"\prod_{k=1}^{n}k"], [r"\prod_{k=1}^{n+1}k"]),
    ("2^n", [r"\sum_{k=0}^{n}\binom{n}{k}"], [r"\sum_{k=1}^{n}\binom{n}{k}"]),
    (r"\sum_{k=1}^{n}\frac{1}{k}", [r"\sum_{j=1}^{n}\frac{1}{j}"], [r"\sum_{j=1}^{n}\frac{1}{j+1}"]),
    (r"y=\int_0^x e^{t^2}dt", [r"y=\int_0^x e^{t^2}dt"], [r"y=\int_0^x e^{t^2}dt+1"]),
]

DECIDED_BY_MATHEMATICS += [  # hedging
    (
        "42",
        [r"42 \text{ or } 42.0"],
        ["42 or 43", r"x=42 \text{ or } x=43", r"\text{42 or 43}", r"\text{either 42 or 43}"],
    ),
    ("42,43", [r"42 \text{ or } 43", "43 or 42", r"42 \text{ and } 43"], ["42 or 44", "42"]),
    ("B", [], ["B or C", r"\text{B or C}", r"\text{B} \text{ or } \text{C}"]),
    (r"\text{yes}", [], [r"\text{yes or no}", r"\text{yes} \text{ or } \text{no}"]),
]


def _pairs(table: list[tuple[str, list[str], list[str]]]) -> list[tuple[str, str, Verdict]]:
    right = [(gold, answer, Verdict.CORRECT) for gold, answers, _ in table for answer in answers]
    return right + [(gold, answer, Verdict.WRONG) for gold, _, answers in table for answer in answers]


def _short(value: object) -> str:
    return str(value)[:40]


@pytest.mark.parametrize(("gold", "answer", "verdict"), _pairs(DECIDED_BY_TEXT), ids=_short)
def test_text_decides(gold: str, answer: str, verdict: Verdict) -> None:
    assert exact_verdict(gold, answer) is verdict


@pytest.mark.parametrize(("gold", "answer", "verdict"), _pairs(DECIDED_BY_MATHEMATICS), ids=_short)
def test_mathematics_decides(gold: str, answer: str, verdict: Verdict) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # as in a worker
    try:
        assert decide(gold, answer) is verdict
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("answer", "tolerance", "verdict"),
    [
        ("4.3", 0.1, Verdict.CORRECT),
        ("4.3", None, Verdict.WRONG),
        ("4.1", 0.1, Verdict.CORRECT),
        ("4.31", 0.1, Verdict.WRONG),
        (r"4.3\%", 0.1, Verdict.CORRECT),
        ("4", 0.1, Verdict.WRONG),
        ("4", 0.5, Verdict.CORRECT),
        (r"3\sqrt{2}", 0.1, Verdict.CORRECT),  # 4.2426
        (r"3\sqrt{2}", 0.01, Verdict.WRONG),
        ("4.2x", 0.1, Verdict.WRONG),
        (r"4.2 \text{ or } 4.3", 0.1, Verdict.WRONG),
    ],
)
def test_a_benchmarks_tolerance_is_an_absolute_error(answer: str, tolerance: float | None, verdict: Verdict) -> None:
    assert decide("4.2", answer, tolerance) is verdict


def test_every_reference_is_correct_for_itself() -> None:
    for gold, _, _ in DECIDED_BY_TEXT + DECIDED_BY_MATHEMATICS:
        assert exact_verdict(gold, gold) is Verdict.CORRECT, gold


def test_normal_form_is_stable() -> None:
    for gold, right, wrong in DECIDED_BY_TEXT + DECIDED_BY_MATHEMATICS:
        for text in (gold, *right, *wrong):
            assert normalize(normalize(text)) == normalize(text), text


def test_an_endless_answer_is_refused_and_an_equally_long_reference_is_not() -> None:
    assert exact_verdict("5", "5+" * 50_000) is Verdict.WRONG
    assert exact_verdict("x+" * 50_000 + "y", "x+" * 50_000 + "y") is Verdict.CORRECT


def test_text_is_decided_without_sympy() -> None:
    program = (
        "import sys; from replication.grading.pool import Grader\n"
        r"with Grader() as g: assert g.grade('73', r'\boxed{073}').reward == 1 and not g.worker_pids" + "\n"
        "assert not {'sympy', 'math_verify', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
