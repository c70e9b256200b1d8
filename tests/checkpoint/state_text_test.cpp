// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/state_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iostream>
#include <limits>

#include "base/text.h"
#include "support/mutations.h"
#include "torch_accelerated/base/error.h"

extern "C" int fuzz_state_text(const std::uint8_t* data, std::size_t size);

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Limits = std::numeric_limits<double>;
using Whole = std::numeric_limits<std::int64_t>;

std::vector<double> special_numbers() {
  return {0.0,
          -0.0,
          1.0,
          -2.0,
          0.1,
          1.0 / 3,
          -1e300,
          1e-300,
          1e15,
          1e16,
          1e17,
          123456789012345680.0,
          0x1p53 + 2,
          -0x1p63,
          0x1p64,
          Limits::max(),
          Limits::min(),
          Limits::lowest(),
          Limits::min() / 3,
          Limits::denorm_min(),
          -Limits::denorm_min(),
          Limits::epsilon(),
          Limits::infinity(),
          -Limits::infinity(),
          Limits::quiet_NaN(),
          -Limits::quiet_NaN()};
}

/// An entry of each type, at their edges.
std::vector<StateEntry> some_values() {
  std::vector<StateEntry> values{{"yes", true},
                                 {"no", false},
                                 {"zero", std::int64_t{0}},
                                 {"least", Whole::min()},
                                 {"most", Whole::max()},
                                 {"one beyond a double", (std::int64_t{1} << 53) + 1},
                                 {"text", std::string("plain")},
                                 {"no text", std::string()},
                                 {"quotes", std::string("\"a\" and \\ and 'b'")},
                                 {"lines", std::string("one\ntwo\r\n\tthree")},
                                 {"control", std::string("\x01\x1F\x7F\b\f") + '\0' + "behind"},
                                 {"utf-8", std::string("\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x9A\x80")},
                                 {"like json", std::string(R"({"number":"nan"})")},
                                 {"no numbers", std::vector<double>{}},
                                 {"numbers", special_numbers()},
                                 {"a/b.c/d e", std::int64_t{-7}},
                                 {"name \"with\"\nall \xC3\xA9", 2.5},
                                 {"number", std::string("nan")}};
  for (double value : special_numbers())
    values.emplace_back(concat("double ", values.size()), value);
  return values;
}

std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

bool same_bits(const StateValue& one, const StateValue& other) {
  if (one.index() != other.index()) return false;
  if (const auto* number = std::get_if<double>(&one)) {
    return bits(*number) == bits(std::get<double>(other));
  }
  const auto* list = std::get_if<std::vector<double>>(&one);
  if (list == nullptr) return one == other;
  const auto& others = std::get<std::vector<double>>(other);
  return std::equal(list->begin(), list->end(), others.begin(), others.end(),
                    [](double a, double b) { return bits(a) == bits(b); });
}

std::string refusal(std::string_view text) {
  try {
    parse_state_text(text, "d/state.json");
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

std::string refusal_to_write(const std::vector<StateEntry>& values) {
  try {
    state_text(values);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "accepted";
}

// The text of one entry.
std::string with(std::string_view entry) { return concat("{\n", entry, "\n}\n"); }

TEST(StateText, ReadsBackEveryValueToTheBitInItsOrder) {
  const auto values = some_values();
  const auto read = parse_state_text(state_text(values), "s");
  ASSERT_EQ(read.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(read[i].first, values[i].first);
    EXPECT_TRUE(same_bits(read[i].second, values[i].second)) << values[i].first;
  }
}

TEST(StateText, ReadsBackRandomBitsOfNumbers) {
  RandomStream stream(testing::mutation_seed());
  std::vector<double> numbers;
  while (numbers.size() < 20'000) {
    const auto number = std::bit_cast<double>(stream());
    if (!std::isnan(number)) numbers.push_back(number);
  }
  const std::vector<StateEntry> values{{"numbers", numbers}};
  EXPECT_TRUE(same_bits(parse_state_text(state_text(values), "s").at(0).second, values[0].second));
}

TEST(StateText, IsReadableJsonOfThisForm) {
  EXPECT_EQ(state_text({{"b", true},
                        {"a", std::int64_t{3}},
                        {"lr", 0.1},
                        {"whole", 2.0},
                        {"loss", Limits::quiet_NaN()},
                        {"name", std::string("x\"y")},
                        {"rates", std::vector<double>{1.0, -Limits::infinity()}}}),
            R"({
"b": true,
"a": 3,
"lr": 0.1,
"whole": 2.0,
"loss": {"number":"nan"},
"name": "x\"y",
"rates": [1.0,{"number":"-inf"}]
}
)");
  EXPECT_EQ(state_text({}), "{\n}\n");
  EXPECT_TRUE(parse_state_text(state_text({}), "s").empty());
}

TEST(StateText, IsRefusedAtEveryTruncation) {
  const auto text = state_text(some_values());
  ASSERT_EQ(refusal(text), "accepted");
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_THAT(refusal(text.substr(0, size)), StartsWith("'d/state.json': ")) << size;
  }
}

TEST(StateText, RefusesWhatNoStateHasAndNamesTheEntry) {
  ASSERT_EQ(refusal(with(R"("a": 1)")), "accepted");
  const auto refused = [](std::string_view what) {
    return AllOf(StartsWith("'d/state.json': "), HasSubstr(what));
  };
  EXPECT_THAT(refusal(with(R"("a": null)")), refused("null at or behind 'a'"));
  EXPECT_THAT(refusal(with(R"("a": {"b": 1})")), refused("no number at or behind 'a'"));
  EXPECT_THAT(refusal(with(R"("a": {})")), refused("no number at or behind 'a'"));
  EXPECT_THAT(refusal(with(R"("a": {"number": {"number": "nan"}})")), refused("an object"));
  EXPECT_THAT(refusal(with(R"("a": [[1.0]])")), refused("an array at or behind 'a'"));
  EXPECT_THAT(refusal(with(R"("a": [{"number": [1.0]}])")), refused("an array"));
  EXPECT_THAT(refusal(with(R"("a": [null])")), refused("null"));
  EXPECT_THAT(refusal(with(R"("a": [true])")), refused("a value out of its place"));
  EXPECT_THAT(refusal(with(R"("a": ["x"])")), refused("a value out of its place"));
  EXPECT_THAT(refusal(with(R"("a": [1])")), refused("a value out of its place"));
  EXPECT_THAT(refusal(with(R"("a": 1, "b": 2, "a": 3)")), refused("the entry 'a' twice"));
  EXPECT_THAT(refusal(with(R"("": 1)")), refused("an entry without a name"));
}

TEST(StateText, RefusesWrongSpecialNumbers) {
  for (const char* special :
       {R"({"number": "NaN"})", R"({"number": "infinity"})", R"({"number": ""})",
        R"({"number": 1.0})", R"({"number": true})", R"({"number": null})", R"({"Number": "nan"})",
        R"({"number": "nan", "number": "inf"})", R"({"number": "nan", "other": 1})",
        R"({"other": 1, "number": "nan"})", R"({"number": 1})", "NaN", "-Infinity", "nan"}) {
    EXPECT_THAT(refusal(with(concat(R"("a": )", special))), StartsWith("'d/state.json': "))
        << special;
    EXPECT_THAT(refusal(with(concat(R"("a": [)", special, "]"))), StartsWith("'d/state.json': "))
        << special;
  }
}

TEST(StateText, RefusesNumbersThatItCanNotHold) {
  const auto of = [](std::string_view number) { return refusal(with(concat(R"("a": )", number))); };
  EXPECT_EQ(of("9223372036854775807"), "accepted");
  EXPECT_EQ(of("-9223372036854775808"), "accepted");
  for (const char* number :
       {"9223372036854775808", "-9223372036854775809", "18446744073709551615",
        "18446744073709551616", "-99999999999999999999", "123456789012345678901234567890"}) {
    EXPECT_THAT(of(number), HasSubstr("a number beyond 64 bits at or behind 'a'")) << number;
  }
  for (const char* number : {"1e400", "-1e400", "1.", ".5", "+1", "01", "0x10", "1_000", "--1"}) {
    EXPECT_THAT(of(number), StartsWith("'d/state.json': ")) << number;
  }
}

TEST(StateText, RefusesWhatIsNoObjectOrHasMoreAroundIt) {
  const auto text = state_text(some_values());
  for (const char* more : {"x", "{}", ",", "\n{\n}\n", "\n", " ", "// comment\n", "}\n"}) {
    EXPECT_NE(refusal(text + more), "accepted") << more;
    EXPECT_NE(refusal(more + text), "accepted") << more;
  }
  EXPECT_NE(refusal(text + '\0'), "accepted");
  EXPECT_NE(refusal("\xEF\xBB\xBF" + text), "accepted");
  for (const char* other : {"", "\n", "null\n", "true\n", "1\n", "\"a\"\n", "[]\n", "[{}\n]\n",
                            "{\"a\"}\n", "{,}\n", "{\"a\": 1,}\n", "{a: 1}\n", "{'a': 1}\n"}) {
    EXPECT_THAT(refusal(other), StartsWith("'d/state.json': ")) << other;
  }
}

TEST(StateText, RefusesTextThatIsNoUtf8) {
  for (const char* text : {"\xFF", "\xC3", "\xED\xA0\x80", "\xC0\x80", "a\xE9z"}) {
    EXPECT_THAT(refusal_to_write({{"a", std::string(text)}}), HasSubstr("which is no UTF-8"));
    EXPECT_THAT(refusal_to_write({{text, true}}), HasSubstr("which is no UTF-8"));
    EXPECT_THAT(refusal(with(concat(R"("a": ")", text, "\""))), StartsWith("'d/state.json': "));
  }
}

TEST(StateText, IsNeverOfAKindThatIsNotReadBack) {
  EXPECT_THAT(refusal_to_write({{"", true}}), HasSubstr("a value without a name"));
  const std::vector<StateEntry> many(StateTextLimits::kEntries + 1, {"a", true});
  EXPECT_THAT(refusal_to_write(many), HasSubstr("1000001 values"));
}

// A parser that followed them would need a frame of the stack for each.
TEST(StateText, RefusesAnyDepthOfNesting) {
  for (const char* opening : {"[", R"({"number":)", R"({"a":)"}) {
    std::string text = R"({"a":)";
    for (int i = 0; i < 200'000; ++i) text += opening;
    EXPECT_THAT(refusal(text), StartsWith("'d/state.json': "));
  }
}

// No crash, no other error than CheckpointError, and what is read can be written.
TEST(StateText, SurvivesMutations) {
  const auto seed = testing::mutation_seed();
  const std::uint64_t rounds = testing::is_long_run() ? 1'000'000 : 20'000;
  const auto all = some_values();
  std::vector<std::string> texts{state_text({}), state_text(all)};
  for (std::size_t i = 0; i < all.size(); i += 3) {
    texts.push_back(
        state_text({all.begin() + static_cast<std::ptrdiff_t>(i),
                    all.begin() + static_cast<std::ptrdiff_t>(std::min(i + 3, all.size()))}));
  }
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(seed, 1, round);
    auto text = texts[stream.below(texts.size())];
    const auto changes = 1 + stream.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) testing::mutate_text(text, stream);
    fuzz_state_text(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    accepted += refusal(text) == "accepted" ? 1 : 0;
  }
  EXPECT_GT(accepted, rounds / 100);  // some get as far as being read, and written again
  if (testing::is_long_run()) {
    std::cout << "state text mutations: seed " << seed << ", " << rounds << " texts, " << accepted
              << " still readable\n";
  }
}

}  // namespace
}  // namespace torch_accelerated
