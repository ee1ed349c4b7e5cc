"""Page × role: who sees what, and who may do what, for every address of the admin."""

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from checkout.page import snapshot
from settlements.models import ExportWhat
from settlements.roles import ANALYST, APPROVER, OPERATOR, ROLES, VIEWER, codename, settle_roles
from tests.factories import World
from tests.factories_roles import member
from tests.situations import succeeded

pytestmark = pytest.mark.django_db

NOBODY = "nobody"  # staff without a role
EVERYBODY = (NOBODY, VIEWER, ANALYST, APPROVER, OPERATOR)
OURS = [
    model
    for model in admin.site._registry
    if model._meta.app_label in {"checkout", "settlements", "admin"}
]
# Pages that are no model's own: address name → the roles that open it.
ALL_ROLES = {VIEWER, ANALYST, APPROVER, OPERATOR}
PAGES: dict[str, set[str]] = {
    "admin:index": {NOBODY, *ALL_ROLES},
    "in_doubt": ALL_ROLES,
    "match_by_hand": {ANALYST},
    "admin:settlements_booksclose_next": ALL_ROLES,
    "admin:checkout_dead_letters": ALL_ROLES,
    "month": ALL_ROLES,
    "cash": ALL_ROLES,
    "admin:checkout_hold_place": {OPERATOR},
    "admin:settlements_statementimport_upload": {ANALYST, OPERATOR},
    "admin:settlements_statementterms_agree": {ANALYST, OPERATOR},
    "admin:settlements_bankterms_agree": {ANALYST, OPERATOR},
    "admin:settlements_routeschedule_agree": {ANALYST, OPERATOR},
    "admin:auth_user_changelist": set(),
    "admin:auth_group_changelist": set(),
}


def clients() -> Iterator[tuple[str, Client]]:
    for role in EVERYBODY:
        yield role, member(*([] if role == NOBODY else [role]), name=role)


def expected_of(role: str, right: tuple[str, str, str]) -> int:
    return 200 if right in ROLES.get(role, frozenset()) else 403


def test_every_model_of_the_admin_is_some_role_s_to_see() -> None:
    """A new page is given to a role in settlements/roles.py, with a migration that settles it."""
    seen = {right for rights in ROLES.values() for right in rights}
    missing = [m._meta.label for m in OURS if (*names_of(m), "view") not in seen]

    assert missing == []


def names_of(model: type) -> tuple[str, str]:
    return model._meta.app_label, model._meta.model_name  # type: ignore[attr-defined]


def test_the_groups_hold_exactly_what_the_table_says() -> None:
    """A change of the table wants a migration that calls settle_roles again."""
    held = {
        group.name: {
            f"{app}.{name}"
            for app, name in group.permissions.values_list("content_type__app_label", "codename")
        }
        for group in Group.objects.all()
    }

    assert held == {role: set(map(codename, rights)) for role, rights in ROLES.items()}
    count = Permission.objects.count()
    settle_roles(apps)
    assert Permission.objects.count() == count


def test_every_right_is_one_that_django_knows() -> None:
    known = set(Permission.objects.values_list("content_type__app_label", "codename"))
    models = {(m._meta.app_label, m._meta.model_name) for m in apps.get_models()}
    for rights in ROLES.values():
        for app, model, action in rights:
            assert (app, model) in models, "an app or model that does not exist"
            assert (app, f"{action}_{model}") in known


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_a_model_s_pages_open_for_exactly_its_roles(model: type) -> None:
    app, name = names_of(model)
    row_id = "00000000-0000-4000-8000-00000000000f"
    for role, client in clients():
        seen = expected_of(role, (app, name, "view"))
        listed = client.get(reverse(f"admin:{app}_{name}_changelist"))
        assert listed.status_code == seen, (role, name)
        # No such row: who may look is led back to where he came from.
        page = client.get(reverse(f"admin:{app}_{name}_change", args=[row_id]))
        assert page.status_code == (302 if seen == 200 else 403), (role, name)
        assert client.get(reverse(f"admin:{app}_{name}_add")).status_code == 403, (role, name)
        gone = client.post(reverse(f"admin:{app}_{name}_delete", args=[row_id]), {"post": "yes"})
        assert gone.status_code in {302, 403}, (role, name)


@pytest.mark.parametrize(
    "what", [each for each in ExportWhat if each not in {"journal", "evidence"}]
)
def test_an_export_is_asked_for_and_downloaded_by_exactly_its_roles(what: str) -> None:
    """Analysts and approvers; everybody of finance reads the list of exports (the models' pages)."""
    address = reverse("admin:settlements_exportrun_ask", args=[what])
    for role, client in clients():
        wanted = 200 if role in {ANALYST, APPROVER} else 403
        assert client.get(address).status_code == wanted, role
        # No such export: who may download hears so.
        wanted = 404 if role in {ANALYST, APPROVER} else 403
        file = reverse("admin:settlements_exportrun_download", args=[0])
        assert client.post(file).status_code == wanted, role


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_for_exactly_its_roles(page: str) -> None:
    for role, client in clients():
        wanted = 200 if role in PAGES[page] else 403
        assert client.get(reverse(page)).status_code == wanted, (role, page)


def test_the_proof_of_a_charge_opens_for_every_role() -> None:
    charge = succeeded(World())
    for role, client in clients():
        answer = client.get(reverse("charge_proof", args=[charge.pk]))
        assert answer.status_code == (403 if role == NOBODY else 200), role


def test_who_is_not_signed_in_is_sent_to_sign_in() -> None:
    for name in (*PAGES, *(f"admin:{a}_{m}_changelist" for a, m in map(names_of, OURS))):
        answer = Client().get(reverse(name))
        assert answer.status_code == 302, name
        assert "/admin/login/" in answer["Location"], name


# Which actions a role finds in a list: nothing else can be posted either, Django looks there. Every table
# that has actions, and every role: who is not named here finds none.
ACTIONS: dict[str, dict[str, set[str]]] = {
    "checkout.charge": {APPROVER: {"write_off"}, OPERATOR: {"requeue"}},
    "checkout.attempt": {ANALYST: {"propose_verdict"}},
    "checkout.case": {APPROVER: {"approve_verdict", "approve_bill_run"}, OPERATOR: {"close"}},
    "checkout.hold": {OPERATOR: {"lift"}},
    "checkout.creator": {OPERATOR: {"hold"}},
    "checkout.subscription": {OPERATOR: {"cancel"}},
    "settlements.discrepancy": {ANALYST: {"assign", "note", "propose", "reopen"}},
}


def test_every_table_with_actions_is_in_the_table_of_roles() -> None:
    acting = {m._meta.label_lower for m, desk in admin.site._registry.items() if desk.actions}

    assert acting & {m._meta.label_lower for m in OURS} == set(ACTIONS)


@pytest.mark.parametrize("role", EVERYBODY)
@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label_lower)
def test_a_role_finds_exactly_its_actions(model: type, role: str, rf: object) -> None:
    user = User.objects.create_user("somebody", is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    request = rf.get("/admin/")  # type: ignore[attr-defined]
    request.user = user
    desk = admin.site._registry[model]

    wanted = ACTIONS.get(".".join(names_of(model)), {}).get(role, set())
    assert set(desk.get_actions(request)) == wanted


# Decisions that have an address of their own: name → the roles that may post there; an id that no row
# has, where one is asked for, is told apart from a right that is missing.
DECISIONS: dict[str, set[str]] = {
    "admin:settlements_proposal_decide": {ANALYST, APPROVER},
    "admin:settlements_proposal_take_apart": {ANALYST},
    "admin:settlements_discrepancy_together": {ANALYST},
    "admin:settlements_booksclose_next": {ANALYST},
    "admin:settlements_booksclose_month": {ANALYST},
    "match_by_hand": {ANALYST},
    "admin:settlements_statementimport_upload": {ANALYST, OPERATOR},
    "admin:settlements_statementterms_agree": {ANALYST, OPERATOR},
    "admin:settlements_bankterms_agree": {ANALYST, OPERATOR},
    "admin:settlements_routeschedule_agree": {ANALYST, OPERATOR},
    "admin:checkout_hold_place": {OPERATOR},
}
# Of a proposal: who may decide so.
WAYS: dict[str, set[str]] = {"approve": {APPROVER}, "refuse": {APPROVER}, "withdraw": {ANALYST}}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_is_taken_by_exactly_its_roles(name: str) -> None:
    of_a_row = name.endswith(("_decide", "_take_apart"))
    for role, client in clients():
        address = reverse(name, args=[0] if of_a_row else [])
        said = {"decision": "withdraw" if role == ANALYST else "approve"}
        refused = client.post(address, said).status_code == 403
        assert refused == (role not in DECISIONS[name]), (role, name)


@pytest.mark.parametrize("decision", WAYS)
def test_a_proposal_is_decided_by_exactly_its_roles(decision: str) -> None:
    address = reverse("admin:settlements_proposal_decide", args=[0])
    for role, client in clients():
        refused = client.post(address, {"decision": decision}).status_code == 403
        assert refused == (role not in WAYS[decision]), (role, decision)


# --- What a page prints ------------------------------------------------------------------------


def test_a_list_prints_its_count_its_usd_its_filter_and_as_of_when(world: World) -> None:
    """R48: what the screen counts and adds up is what it lists."""
    world.due_charge(price="19.99")
    world.due_charge(price="199.00")
    world.receive(world.due_charge(price="5.00"))
    client = member(VIEWER)

    page = client.get("/admin/checkout/charge/?state__exact=due").content.decode()

    assert "<strong>2 charges</strong>" in page
    assert "218.99 USD" in page
    assert "filter: By state: Due" in page or "filter: state: due" in page.lower()
    assert " UTC" in page


def test_the_finance_zone_stands_beside_utc(world: World, settings: object) -> None:
    settings.FINANCE_ZONE = "Asia/Almaty"  # type: ignore[attr-defined]

    page = member(VIEWER).get("/admin/checkout/charge/").content.decode()

    assert "Asia/Almaty)" in page


def test_a_list_that_goes_on_prints_no_sum(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not counted to the end carries no money, unless sums of it are kept."""
    monkeypatch.setattr("checkout.lists.MOST_COUNTED", 1)
    for _ in range(2):
        world.receive(world.due_charge())

    page = member(VIEWER).get("/admin/checkout/attempt/").content.decode()

    assert "more than 1 attempt" in page
    assert 'class="money">39.98 USD' not in page
    assert "USD</strong>" not in page


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.django_db(transaction=True)
def test_a_page_is_one_snapshot_that_cannot_write() -> None:
    """What is committed while a page is being built is on the next one."""
    with snapshot(), connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("repeatable read",)
        cursor.execute("SHOW transaction_read_only")
        assert cursor.fetchone() == ("on",)
