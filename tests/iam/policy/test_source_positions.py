import json

from hypothesis import given
from hypothesis import strategies as st

from iam.policy.source_positions import statement_spans

# As an example in the AWS CLI's documentation has it: the statement begins behind the bracket of line 3.
DOCUMENTED = """{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "VisualEditor0",
            "Effect": "Allow",
            "Action": "codecommit:ListRepositories",
            "Resource": "*"
        }
    ]
}"""


def test_a_statement_begins_and_ends_where_aws_says_it_does():
    assert statement_spans(DOCUMENTED) == (((3, 19), (9, 10)),)


def test_a_statement_without_a_list_begins_behind_the_colon():
    assert statement_spans('{"Statement": {"a": "b"}}') == (((1, 14), (1, 25)),)


def test_what_stands_before_and_inside_hides_nothing():
    text = '{"Id": "}{:,[\\"",\n "Version" : "2012-10-17" ,\n"Statement":[ {"a":[1,{"b":"]"}]}\n , {} ] }'
    (first, second) = statement_spans(text)
    assert first == ((3, 14), (3, 34))
    assert second == ((4, 3), (4, 6))


STATEMENTS = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.lists(st.text(max_size=5), max_size=2), max_size=3),
    min_size=1,
    max_size=4,
)


@given(STATEMENTS, st.sampled_from([None, 1, 3]), st.text(max_size=6))
def test_what_stands_at_a_span_is_the_statement(statements, indent, identifier):
    text = json.dumps({"Id": identifier, "Statement": statements, "Version": "2012-10-17"}, indent=indent)
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)

    def offset(position):
        return starts[position.line - 1] + position.column - 1

    spans = statement_spans(text)
    assert [json.loads(text[offset(span.start) : offset(span.end)]) for span in spans] == statements
