"""The admin's lists of facts that are searched: a box that says what it understands, filters, and pages by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, RangeDateTimeFilter
from unfold.paginator import InfinitePaginator

from project.admin import Facts
from project.reading import SLOWEST, Busy
from project.searching import Asked, Page, Search, SearchError, estimate, page, total

BEFORE: Final = "before"  # the parameter of a page that is not the first: the uid below which it begins

BUSY: Final = (
    f"PostgreSQL took more than {SLOWEST // 1000} seconds for this, so it was ended. Say more of what you look for, "
    "above all a time, as in since:1d; or try again when there is less to do."
)


class TermFilter(DropdownFilter):
    """A filter beside the list that stands for a term of the search: `parameter_name` is the field's name.

    Subclasses say which `values` there are to choose.
    """

    def values(self) -> Iterable[str]:
        raise TypeError(f"{type(self).__name__} does not override values")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value) for value in self.values()]

    def terms(self) -> Iterator[tuple[str, str]]:
        if value := self.value():
            yield self.parameter_name, value

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset  # FactList searches


class PeriodFilter(TermFilter):
    title = "time"
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1h", "Last hour"), ("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days")]


class RangeFilter(RangeDateTimeFilter):
    """From a time to a time; either may be left out, and so may the time of day."""

    def terms(self) -> Iterator[tuple[str, str]]:
        for name, end in (("since", "from"), ("until", "to")):
            day, clock = (self.used_parameters.get(f"{self.parameter_name}_{end}_{n}") or "" for n in (0, 1))
            if day or clock:
                yield name, f"{day}T{clock}" if clock else day

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset


class Pages(InfinitePaginator):
    """Only its template is used: pages follow each other by key, so that the hundredth costs what the first does."""

    template_name = "facts/pages.html"


class FactList(ChangeList):
    """A list that is found by a Search, newest first. `trouble`: why nothing is shown."""

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        if found[2]:  # no filter's, no field's: it would be looked for in the whole table
            raise IncorrectLookupParameters
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """All that is asked for, which actions narrow to what was selected."""
        for parameters in (self.params, self.filter_params):  # another search begins anew
            parameters.pop(BEFORE, None)
        self.before = Facts.uid_in(request.GET.get(BEFORE, ""))
        self.all_rows = super().get_queryset(request, exclude_parameters)
        self.asked, self.trouble = Asked(), ""
        options: Any = self.model_admin
        search: Search = options.search
        given = [term for spec in self.filter_specs if hasattr(spec, "terms") for term in spec.terms()]
        try:
            self.asked = search.read(self.query, given)
        except (SearchError, Busy) as error:
            self.trouble = BUSY if isinstance(error, Busy) else error.told
            return self.all_rows.none()
        return self.all_rows.filter(self.asked.where)

    def get_results(self, request: HttpRequest) -> None:
        self.found, self.total = Page(), None
        if not self.trouble:
            try:
                self.found = page(self.all_rows, self.asked, before=self.before, most=self.list_per_page)
                self.total = total(self.all_rows, self.asked)
            except Busy:
                self.trouble = BUSY
        self.result_list = self.found.rows
        self.result_count = self.full_result_count = len(self.found.rows)  # so that no part of it is told as a whole
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = Pages(self.found.rows, self.list_per_page)

    @property
    def number(self) -> str:
        """How many there are, as far as it is told without counting them."""
        if self.total is None:
            return ""
        if self.total.more and self.asked == Asked():
            return f"about {estimate(self.model):,}"
        return f"more than {self.total.n:,}" if self.total.more else str(self.total)

    @property
    def older(self) -> str:
        """Where the rows are that come next."""
        return self.get_query_string({BEFORE: str(self.found.older)})

    @property
    def newest(self) -> str:
        return self.get_query_string()

    @property
    def as_words(self) -> str:
        """Where the sole word that was read as a field's value is looked for as a word."""
        return self.get_query_string({SEARCH_VAR: f'"{self.query.strip()}"'})


class SearchedFacts(Facts):
    """Facts by the million. `search` says what their box understands."""

    search: ClassVar[Search]
    list_before_template = "facts/search.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FactList

    def get_search_fields(self, request: HttpRequest) -> Sequence[str]:
        return ("pk",)  # that there is a box; FactList reads it

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return queryset, False
