// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::history_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(History, GivesTheNewestValueAndAllInOrder) {
  ta::InMemoryHistory history;
  history.append({1, 10, {{"loss", 0.5}}});
  history.append({2, 20, {{"loss", 0.25}, {"extra", 1.0}}});
  history.append({3, 30, {{"loss", 0.125}}});
  EXPECT_EQ(history.latest("loss"), 0.125);
  EXPECT_EQ(history.latest("extra"), 1.0);
  EXPECT_THAT(history.values("loss"), ElementsAre(0.5, 0.25, 0.125));
}

TEST(History, AFailedLookUpNamesWhatThereIsAndChangesNothing) {
  ta::InMemoryHistory history;
  history.append({1, 10, {{"loss", 0.5}, {"learning_rate", 0.1}}});
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { history.latest("los"); }),
              testing::AllOf(HasSubstr("'los'"), HasSubstr("did you mean 'loss'?")));
  EXPECT_EQ(history.rows().size(), 1U);
  EXPECT_EQ(history.rows().front().metrics.size(), 2U);
}

TEST(History, SaysThatNoEpochHasEnded) {
  EXPECT_THAT(message_of<ta::ArgumentError>([] { ta::InMemoryHistory().latest("loss"); }),
              HasSubstr("no epoch has ended"));
}

}  // namespace
}  // namespace tests::history_test
