// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <ctime>

#include "support/tiny.h"

namespace tests::state_test {
namespace {

using testing::HasSubstr;

TEST(State, GivesBackWhatWasSetAndNamesWhatIsNot) {
  ta::State state;
  state.set("on", true).set("count", std::int64_t{3}).set("best", 0.5).set("name", "loss");
  state.set("rates", std::vector<double>{0.1, 0.2}).set_tensor("weight", torch::ones({2}));
  state.set("count", std::int64_t{4});
  EXPECT_TRUE(state.get<bool>("on"));
  EXPECT_EQ(state.get<std::int64_t>("count"), 4);
  EXPECT_EQ(state.get<std::string>("name"), "loss");
  EXPECT_EQ(state.get<std::vector<double>>("rates").size(), 2U);
  EXPECT_EQ(state.tensor("weight").numel(), 2);
  EXPECT_EQ(state.values().size(), 5U);
  EXPECT_THAT(message_of<ta::StateError>([&] { state.get<double>("count"); }),
              HasSubstr("'count' is of another type"));
  EXPECT_THAT(message_of<ta::StateError>([&] { state.get<double>("worst"); }),
              HasSubstr("no value 'worst'"));
  EXPECT_THAT(message_of<ta::StateError>([&] { state.tensor("bias"); }),
              HasSubstr("no tensor 'bias'"));
}

// As many as are looked up one by one, one more, and as many as a large model has.
TEST(State, FindsAndReplacesAnyOfManyNames) {
  for (const std::int64_t count : {15, 16, 17, 18, 5000}) {
    ta::State state;
    for (std::int64_t i = 0; i < count; ++i) state.set("value" + std::to_string(i), i);
    for (std::int64_t i = 0; i < count; i += 3) state.set("value" + std::to_string(i), -i);
    const auto copy = state;
    ASSERT_EQ(copy.values().size(), static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      const auto name = "value" + std::to_string(i);
      ASSERT_EQ(copy.get<std::int64_t>(name), i % 3 == 0 ? -i : i) << name;
      ASSERT_EQ(copy.values()[static_cast<std::size_t>(i)].first, name);
    }
    EXPECT_FALSE(copy.contains("value" + std::to_string(count)));
  }
}

// One look at each name before it cost 4 s for 10,000 parameters with Adam's states.
TEST(State, TakesNoLongerForEachNameWhenThereAreMany) {
  const auto seconds_for = [](std::int64_t count) {
    const auto begin = std::clock();  // CPU time, so that other processes don't count
    ta::State state;
    for (std::int64_t i = 0; i < count; ++i) state.set("optimizer/moment/" + std::to_string(i), i);
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  const double few = seconds_for(2000);
  EXPECT_LT(seconds_for(40'000), 20 * 10 * few + 0.1);
}

TEST(State, PartsComeBackUnderTheirOwnNames) {
  const auto part = ta::State().set("update", std::int64_t{7}).set_tensor("m", torch::zeros({1}));
  ta::State whole;
  whole.set("update", std::int64_t{1}).set_part("first", part).set_part("second", ta::State());
  const auto back = whole.part("first");
  EXPECT_EQ(back.get<std::int64_t>("update"), 7);
  EXPECT_EQ(back.tensor("m").numel(), 1);
  EXPECT_TRUE(whole.part("second").empty());
  EXPECT_EQ(whole.get<std::int64_t>("update"), 1);
}

}  // namespace
}  // namespace tests::state_test
